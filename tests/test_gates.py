"""What is checked before every training, and that each check can fail."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from typer.testing import CliRunner

from carpus import augment, config, data, gates, job, losses, models, run, train
from carpus.batches import Batches
from carpus.cli import app
from carpus.devices import fabric
from carpus.devices import scaler as scaler_of
from carpus.errors import ConfigError, DivergedError
from carpus.labels import BONES
from carpus.models import weights
from carpus.models.additions import up

Tiny = Callable[..., config.Config]
ADDED = ["model.up={}", "model.refine={kind: depthwise}", "model.calibration=true", "model.aux=[{stage: 4}]"]
LOSS = losses.build({"bce": 0.5, "dice": 0.5})


class Prepared:
    """A network and its first batch, ready for the gates."""

    def __init__(self, root: Path, settings: config.Config) -> None:
        self.settings, self.launcher = settings, fabric("cpu", "32")
        learn, _ = job.split(data.read(root), settings.data)
        cache = data.Cache(BONES, settings.data.image_size, 96, 2**28)
        limits = augment.Settings()
        self.batch = Batches(learn, cache, limits, batch_size=settings.train.batch_size, seed=0)(0)
        torch.manual_seed(settings.train.seed)
        self.network = models.build(settings.model, 29).to(memory_format=torch.channels_last)  # as a training has it

    def check(self, **other: Any) -> list[str]:
        arguments = {"batch": self.batch, "loss_of": LOSS, "launcher": self.launcher, **other}
        return gates.check(self.network, self.settings, 29, **arguments)


@pytest.fixture
def prepare(dataset: Path, tiny: Tiny) -> Callable[..., Prepared]:
    return lambda *more: Prepared(dataset, tiny(*more))


def test_the_gates_say_what_they_found(prepare: Callable[..., Prepared]) -> None:
    told: list[str] = []
    lines = prepare("model.stride=4", *ADDED).check(tell=told.append)
    assert told == lines
    assert [line.split(":")[0] for line in lines] == ["weights", "step 0", "loss", "gradients"]
    assert "logits as without up, refine, calibration, aux (largest difference 0)" in lines[1]
    assert "reach all" in lines[3]


def test_the_gates_leave_the_network_as_it_was(prepare: Callable[..., Prepared]) -> None:
    made = prepare("model.stride=4", *ADDED)
    made.network.eval()
    before = {name: tensor.clone() for name, tensor in made.network.state_dict().items()}
    state = torch.get_rng_state()
    made.check()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.network.state_dict().items())
    assert all(parameter.grad is None for parameter in made.network.parameters())
    assert not made.network.training


def test_random_additions_pass_but_are_named(prepare: Callable[..., Prepared]) -> None:
    line = prepare("model.stride=4", "model.up={init: random}").check()[1]
    assert "up not begun as no-op, as asked for; nothing to compare with" in line


@pytest.mark.parametrize("old", ["down", "down-strided", "up", "refine", "calibration"])
def test_a_trained_addition_excuses_no_other(old: str, prepare: Callable[..., Prepared], tmp_path: Path) -> None:
    values = {"down": "{}", "up": "{}", "refine": "{kind: local}", "calibration": "true"}
    name = old.removesuffix("-strided")
    values |= {"down": "{kind: strided}"} if old == "down-strided" else {}
    trained = prepare("model.stride=4", f"model.{name}={values[name]}").network
    with torch.no_grad():
        for parameter in trained.get_submodule(name).parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    weights.save(trained, tmp_path / "w.safetensors")
    every = [f"model.{key}={value}" for key, value in values.items()]
    made = prepare("model.stride=4", f"model.weights={tmp_path / 'w.safetensors'}", *every)
    others = ", ".join(key for key in values if key != name)
    line = made.check()[1]
    assert f"logits as without {others} (largest difference" in line
    assert f"{name} go on from trained weights" in line
    broken = "refine.last.bias" if name != "refine" else "calibration.bias"
    with torch.no_grad():
        made.network.get_parameter(broken).fill_(1.0)
    with pytest.raises(ConfigError, match=f"gate: with {others} the first logits differ"):
        made.check()


def test_a_random_addition_excuses_no_other(prepare: Callable[..., Prepared]) -> None:
    made = prepare("model.stride=4", "model.down={kind: strided, init: random}", "model.refine={kind: local}")
    assert "logits as without refine" in made.check()[1]
    with torch.no_grad():
        made.network.get_parameter("refine.last.bias").fill_(1.0)
    with pytest.raises(ConfigError, match="gate: with refine the first logits differ"):
        made.check()


def test_an_addition_that_changes_the_first_logits_is_stopped(prepare: Callable[..., Prepared]) -> None:
    made = prepare("model.stride=4", *ADDED)
    with torch.no_grad():
        made.network.get_parameter("refine.last.bias").fill_(0.01)
    with pytest.raises(ConfigError, match=r"gate: with up, refine, calibration, aux the first logits differ by 0\.01"):
        made.check()


def test_a_part_that_no_gradient_reaches_is_stopped(prepare: Callable[..., Prepared]) -> None:
    for part in ("decoder", "head"):
        made = prepare()
        getattr(made.network, part).register_parameter("idle", nn.Parameter(torch.zeros(1)))
        with pytest.raises(ConfigError, match=rf"gate: no gradient reaches {part}\.idle \(1 such"):
            made.check()
    made = prepare()
    made.network.head.register_forward_hook(lambda head, images, logits: logits.detach() + made.network.anchor)
    made.network.register_parameter("anchor", nn.Parameter(torch.zeros(1)))
    with pytest.raises(ConfigError, match=r"gate: no gradient reaches decoder\.\S+ \(\d+ such"):
        made.check()


def test_a_part_whose_gradient_stays_zero_is_stopped(prepare: Callable[..., Prepared]) -> None:
    made = prepare()
    made.network.head.register_forward_hook(lambda head, images, logits: 0 * logits)
    with pytest.raises(ConfigError, match=r"gate: the gradient of encoder\.\S+\.weight stays zero \(\d+ such"):
        made.check()


def test_scales_of_a_norm_have_to_move(prepare: Callable[..., Prepared]) -> None:
    made = prepare()
    scales = {name: scale for name, scale in made.network.named_parameters() if name.endswith("bn1.weight")}
    assert scales
    for scale in scales.values():
        scale.register_hook(lambda gradient: 0 * gradient)
    with pytest.raises(ConfigError, match=rf"gate: the gradient of {next(iter(scales))} stays zero"):
        made.check()


@pytest.mark.parametrize("added", [[], ["model.calibration=true"]])
def test_an_encoder_that_refuses_the_size_is_named(added: list[str], prepare: Callable[..., Prepared]) -> None:
    made = prepare(*added)

    def refuse(*_: object) -> None:
        raise AssertionError("height (16) must be divisible by window (7)")

    made.network.encoder.register_forward_pre_hook(refuse)
    with pytest.raises(ConfigError, match=r"model\.encoder: .* does not take \d+ pixels: height \(16\)"):
        made.check()


def test_a_classifier_that_begins_at_zero_is_none_of_these(prepare: Callable[..., Prepared]) -> None:
    made = prepare()
    made.network.head.weight.data.zero_()  # pyright: ignore
    assert "reach all" in made.check()[-1]


@pytest.mark.parametrize(
    "encoder", ["tu-resnet18", "efficientnet-b0", "tu-regnety_002", "tu-res2net50_26w_4s", "mobileone_s0"]
)
def test_healthy_encoders_pass(encoder: str, prepare: Callable[..., Prepared]) -> None:
    made = prepare(f"model.encoder={encoder}")
    line = made.check()[-1]
    assert "reach all" in line
    unused = [name for name, parameter in made.network.named_parameters() if not parameter.requires_grad]
    leftover = ["encoder._conv_head.weight", "encoder._bn1.weight", "encoder._bn1.bias"]
    assert unused == (leftover if encoder == "efficientnet-b0" else [])
    assert all(name in line for name in unused)


def test_an_addition_with_two_zeros_is_stopped(prepare: Callable[..., Prepared]) -> None:
    made = prepare("model.refine={kind: depthwise}")
    with torch.no_grad():
        made.network.get_parameter("refine.inner.0.weight").zero_()
        made.network.get_parameter("refine.inner.0.bias").zero_()
    # The last bias would move, and hide that nothing else of the refinement ever does.
    with pytest.raises(ConfigError, match=r"gate: the gradient of refine\.inner\.0\.weight stays zero \(3 such"):
        made.check()


@pytest.mark.parametrize("weights", ["weight: 0.0, final_weight: 0.4", "weight: 0.4, final_weight: 0.0"])
def test_an_auxiliary_head_may_begin_or_end_at_weight_0(weights: str, prepare: Callable[..., Prepared]) -> None:
    plain = prepare().check()
    lines = prepare(f"model.aux=[{{stage: 4, {weights}}}]").check()
    assert "reach all" in lines[-1]
    if weights.startswith("weight: 0.0"):
        assert lines[-2] == plain[-2]  # the loss is that of the first step


def test_a_loss_that_is_no_number_is_stopped(prepare: Callable[..., Prepared]) -> None:
    made = prepare()
    made.batch.images.fill_(float("nan"))
    with pytest.raises(DivergedError, match="gate: the loss of the first batch is nan before any step"):
        made.check()


def test_sizes_that_do_not_fit_are_config_errors(prepare: Callable[..., Prepared]) -> None:
    with pytest.raises(ConfigError, match=r"data\.image_size: 96 is not a multiple of 64"):
        prepare("model.down={}", "data.image_size=96").check()


def test_a_batch_norm_with_a_single_number_is_stopped(prepare: Callable[..., Prepared]) -> None:
    pooling = ("model.name=deeplabv3", "model.decoder_channels=null", "model.stride=null")
    made = prepare("train.accumulate=2", *pooling)  # as two devices: half of the batch at a time
    half = made.batch.parts(2)[0]
    with pytest.raises(ConfigError, match=r"train\.batch_size: 2 over 1 devices and train\.accumulate 2 .*\(decoder\."):
        made.check(batch=half)
    assert made.check()
    made = prepare("train.batch_size=1", "model.norm=sync", *pooling)
    with pytest.raises(ConfigError, match="leaves BatchNorm a single number"):
        made.check()
    assert prepare("train.batch_size=1", "model.norm=group", *pooling).check()


def test_sync_norms_count_the_images_of_all_devices() -> None:
    settings = config.load([], ["model.norm=sync", "train.batch_size=2", "train.devices=2"])
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.SyncBatchNorm(3))
    two = cast(Fabric, SimpleNamespace(world_size=2))
    with gates._enough_to_normalise(network, settings, two), pytest.raises(ValueError, match="1 value"):
        network(torch.zeros(1, 3, 4, 4))  # the gate lets it pass; torch, which is alone here, does not
    with (
        gates._enough_to_normalise(network, settings, fabric("cpu", "32")),
        pytest.raises(ConfigError, match="single number"),
    ):
        network(torch.zeros(1, 3, 4, 4))


def test_training_runs_the_gates_and_keeps_what_they_said(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    told: list[str] = []
    settings = tiny("model.stride=4", "model.checkpointing=true", *ADDED)
    train.train(settings, dataset, tmp_path / "run", tell=told.append)
    trained = run.read(tmp_path / "run")
    assert trained.manifest["gates"] == told
    assert trained.network()(torch.zeros(1, 1, 64, 64)).logits.shape == (1, 29, 32, 32)
    continued = tiny("model.stride=4", f"model.weights={tmp_path / 'run' / 'weights.safetensors'}", *ADDED)
    told.clear()
    train.train(continued, dataset, tmp_path / "on", tell=told.append)
    assert "go on from trained weights" in told[1]


def test_a_gate_that_fails_leaves_an_old_run_alone(
    dataset: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.train(tiny(), dataset, tmp_path / "run")
    monkeypatch.setattr(up.Shuffle, "forward", lambda layer, decoded, logits: up.enlarge(logits, 2) + 1)
    with pytest.raises(ConfigError, match="gate: with up the first logits differ by 1"):
        train.train(tiny("model.stride=4", "model.up={}"), dataset, tmp_path / "run", overwrite=True)
    assert run.read(tmp_path / "run")


def test_fp16_learns_by_heart_past_steps_that_overflow(prepare: Callable[..., Prepared]) -> None:
    made, launcher, heavy = prepare("train.learning_rate=5e-3"), fabric("cpu", "fp16"), losses.build({"dice": 1e4})
    before = gates._loss(made.network.train(), made.batch, heavy, launcher)
    gates.overfit(made.network, made.batch, heavy, launcher, made.settings.train, steps=20)
    scaler = scaler_of(launcher)
    assert scaler
    assert scaler.get_scale() < 2**16  # it did overflow
    assert gates._loss(made.network, made.batch, heavy, launcher) < 0.98 * before


def test_what_is_no_number_is_not_learnt_by_heart(prepare: Callable[..., Prepared]) -> None:
    made = prepare()
    made.batch.images.fill_(float("nan"))
    with pytest.raises(DivergedError, match="gate: step 1 on one batch: the loss is nan"):
        gates.overfit(made.network, made.batch, LOSS, made.launcher, made.settings.train, steps=2)


def test_a_batch_is_learnt_in_the_parts_of_a_training(
    prepare: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    forward = models.Network.forward
    monkeypatch.setattr(
        models.Network, "forward", lambda network, images: (sizes.append(len(images)), forward(network, images))[1]
    )
    networks = []
    for parts in (1, 4):
        made = prepare("train.batch_size=4", f"train.accumulate={parts}", "model.norm=group")
        batch = replace(made.batch, images=made.batch.images.double())
        gates.overfit(made.network.double(), batch, LOSS, made.launcher, made.settings.train, steps=2)
        networks.append(made.network)
    assert sizes == [4, 4, 4] + [1] * 12
    for whole, in_parts in zip(*(network.parameters() for network in networks), strict=True):
        torch.testing.assert_close(in_parts, whole, rtol=1e-6, atol=1e-8)


def test_a_batch_too_large_to_learn_is_said(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "overfit", lambda *_, **__: torch.empty(1 << 55))  # 128 PiB
    options = ["--set=data.image_size=64", "--set=data.folds=2", "--set=train.batch_size=2"]
    shown = CliRunner().invoke(app, ["train", "demo", "--data", str(dataset), "--gate", *options])
    assert shown.exit_code == 1
    assert "error: out of memory; what takes less: train.accumulate=2" in shown.stderr


def test_the_command_learns_one_batch_by_heart(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ["data.image_size=64", "data.label_size=64", "data.folds=2", "train.batch_size=2", "train.precision='32'"]
    options = [f"--set={value}" for value in (*small, "train.learning_rate=5e-3", "train.loss={dice: 1}")]
    options.append("--set=train.steps=2")  # of a training; by heart takes as many as it takes
    shown = CliRunner().invoke(app, ["train", "demo", "--data", str(dataset), "--gate", *options])
    assert shown.exit_code == 0, shown.output
    assert "gradients: reach all" in shown.output
    assert "one batch learnt by heart: Dice 0.9" in shown.output
    monkeypatch.setitem(gates.overfit.__kwdefaults__, "steps", 2)
    shown = CliRunner().invoke(app, ["train", "demo", "--data", str(dataset), "--gate", *options])
    assert shown.exit_code == 1
    assert "not the 0.9" in shown.output
    missing = CliRunner().invoke(app, ["train", "demo", "--data", str(dataset)])
    assert missing.exit_code == 2
    assert "expected RECIPE --data DATA --out RUN" in " ".join(missing.output.split())
