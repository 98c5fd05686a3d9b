"""Every addition with every architecture: equal logits at step 0, gradients, round trip; and what each one is."""

from pathlib import Path

import pytest
import torch
from small_models import CLASSES, NOOPS, SMALL, build, pictures, settings, spread
from torch import nn
from torch.nn import functional

from carpus import config, models
from carpus.errors import ConfigError
from carpus.models import weights
from carpus.models.additions import auxiliary, down, recompute, refine, up

PAIRS = [
    (name, addition)
    for name in SMALL
    for addition in NOOPS
    # U-Net++ gives logits as fine as what it sees; Swin is UPerNet again, in seconds instead of tenths of one.
    if not (name == "unetplusplus" and addition.startswith("up"))
    and (name != "upernet-swin" or addition in ("down-strided", "up-shuffle", "aux"))
]


@pytest.mark.parametrize(("name", "addition"), PAIRS)
def test_an_addition_begins_as_if_it_were_not_there_and_then_moves(name: str, addition: str, tmp_path: Path) -> None:
    chosen = settings(name, **NOOPS[addition])
    base, network = spread(build(models.control(chosen))), spread(build(chosen))
    if addition != "down-strided":  # which widens the first projection
        assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in base.state_dict().items())
    images = pictures(models.multiple(chosen))
    expected = base.eval()(down.halve(images) if chosen.down else images).logits
    if chosen.up:
        expected = up.enlarge(expected, chosen.up.factor)
    logits = network.eval()(images).logits
    exact = addition not in ("down-strided", "up-transposed", "pointwise")  # sums of other terms, zeros among them
    assert torch.allclose(logits, expected, rtol=0, atol=0 if exact else 1e-5 * expected.abs().max().item())

    torch.manual_seed(0)
    additions = [parameter for _, module in network.additions() for parameter in module.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    awake = []
    for _ in range(2):
        network.train()
        optimizer.zero_grad()
        output = network(images)
        loss = sum(functional.binary_cross_entropy_with_logits(one, torch.ones_like(one)) for one in output[0:1])
        loss = loss + sum(functional.softplus(-one).mean() for one in output.aux)
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        awake.append([bool(parameter.grad is not None and parameter.grad.any()) for parameter in additions])
        optimizer.step()
    assert any(awake[0])
    assert all(awake[1])

    weights.save(network, tmp_path / "w.safetensors")
    again = build(chosen, seed=1)
    weights.load(again, tmp_path / "w.safetensors")
    assert torch.equal(again.eval()(images).logits, network.eval()(images).logits)


def test_a_down_layer_makes_room_for_an_up_layer_at_stride_1() -> None:
    chosen = settings("unet", stride=1, down={}, up={})
    base, network = spread(build(models.control(chosen))).eval(), spread(build(chosen)).eval()
    logits = network(pictures()).logits
    assert logits.shape[-2:] == (64, 64)
    assert torch.equal(logits, up.enlarge(base(down.halve(pictures())).logits, 2))
    with pytest.raises(ConfigError, match="gives logits at stride 2; 4 would make them finer"):
        build(settings("unet", stride=1, down={}, up={"factor": 4}))


def test_every_convolution_that_sees_the_image_is_widened() -> None:
    chosen = config.Model(encoder="mobileone_s0", down=config.Down(kind="strided"))
    base, network = spread(build(models.control(chosen))).eval(), spread(build(chosen)).eval()
    assert len(network.widened) > 1
    expected = base(down.halve(pictures())).logits
    assert torch.allclose(network(pictures()).logits, expected, atol=1e-5 * expected.abs().max().item())
    with pytest.raises(ConfigError, match=r"model\.down\.kind: strided widens .* tu-tresnet_m has none"):
        build(config.Model(name="upernet", encoder="tu-tresnet_m", down=config.Down(kind="strided")))


def test_dropout_of_training_is_that_of_the_control() -> None:
    more = {"aux": [{"stage": 4}], "refine": {"kind": "depthwise"}, "up": {}}
    chosen = settings("deeplabv3", **more)
    images, logits = pictures(), []
    for one in (models.control(chosen), chosen):
        network = build(one).train()
        logits.append(network(images).logits)
    assert torch.equal(up.enlarge(logits[0], 2), logits[1])


def test_random_additions_are_no_noops() -> None:
    images = pictures()
    for more in (
        {"up": {"init": "random"}},
        {"up": {"init": "icnr"}},
        {"up": {"kind": "transposed", "init": "random"}},
        {"refine": {"init": "random"}},
        {"refine": {"kind": "pointwise", "init": "random"}},
        {"down": {"init": "random"}},
        {"down": {"kind": "strided", "init": "random"}},
    ):
        chosen = settings("segformer", **more)
        base = build(models.control(chosen)).eval()
        expected = base(down.halve(images) if chosen.down else images).logits
        if chosen.up:
            expected = up.enlarge(expected, chosen.up.factor)
        assert (build(chosen).eval()(images).logits - expected).abs().max() > 1e-2, more


def test_all_additions_work_together() -> None:
    more = {
        "down": {},
        "up": {"factor": 4},
        "refine": {"kind": "attention"},
        "calibration": True,
        "aux": [{}],
        "checkpointing": True,
        "norm": "group",
    }
    network = build(settings("segformer", **more)).train()
    output = network(pictures(128))
    assert output.logits.shape == (2, CLASSES, 64, 64)
    assert [tuple(one.shape) for one in output.aux] == [(2, CLASSES, 4, 4)]
    (output.logits.mean() + output.aux[0].mean()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.eval()(pictures(128)).aux == ()


@pytest.mark.parametrize("factor", [2, 4])
def test_a_transposed_convolution_of_tents_is_bilinear_at_the_border_too(factor: int) -> None:
    layer = up.build(config.Up(kind="transposed", factor=factor), 8, 3)
    logits = torch.randn(2, 3, 5, 7)
    assert torch.allclose(layer(torch.zeros(2, 8, 5, 7), logits), up.enlarge(logits, factor), atol=1e-6)


def test_icnr_begins_as_a_nearest_enlargement() -> None:
    layer = up.build(config.Up(init="icnr"), 8, 3)
    added = layer(torch.randn(1, 8, 5, 7), torch.zeros(1, 3, 5, 7))
    assert torch.allclose(added, functional.interpolate(added[:, :, ::2, ::2], scale_factor=2.0), atol=1e-6)


def test_a_halved_image_is_the_bilinear_one() -> None:
    images = pictures()
    halved = functional.interpolate(images, scale_factor=0.5, mode="bilinear", align_corners=False)
    assert torch.allclose(down.halve(images), halved, atol=1e-6)


def test_a_pointwise_convolution_after_the_classifier_folds_into_it() -> None:
    network = build(settings("fcn", refine={"kind": "pointwise", "init": "random"})).eval()
    images = pictures()
    before = network(images).logits
    assert isinstance(network.head, nn.Conv2d)
    assert isinstance(network.refine, nn.Conv2d)
    network.head, network.refine = refine.fold(network.head, network.refine), None
    assert torch.allclose(network(images).logits, before, atol=1e-5)


def test_a_residual_neighbourhood_does_not_fold() -> None:
    # Two pixels with equal features but other neighbours: no classifier of one pixel can tell them apart.
    layer = refine.build(config.Refine(kind="local", init="random"), 3)
    logits = torch.zeros(1, 3, 5, 9)
    logits[0, :, 2, 0] = 4.0
    made = layer(logits)
    assert not torch.allclose(made[0, :, 2, 1], made[0, :, 2, 6], atol=1e-3)


@pytest.mark.parametrize("kind", ["local", "depthwise", "attention"])
@pytest.mark.parametrize("classes", [5, 29])
def test_the_control_has_as_many_parameters_and_no_neighbourhood(kind: str, classes: int) -> None:
    torch.manual_seed(0)
    counts = []
    for control in (False, True):
        layer = refine.build(config.Refine(kind=kind, control=control, init="random"), classes)  # pyright: ignore
        counts.append(models.parameters(layer))
    assert abs(counts[0] - counts[1]) <= classes + 1
    logits = torch.randn(1, classes, 6, 6)
    changed = logits.clone()
    changed[..., 0] += 1
    assert torch.equal(layer(logits)[..., 1:], layer(changed)[..., 1:])


def test_attention_lets_a_class_look_at_the_others_as_a_whole() -> None:
    torch.manual_seed(0)
    layer = refine.build(config.Refine(kind="attention", init="random"), 5)
    logits = torch.randn(1, 5, 32, 32)
    assert not torch.allclose(layer(logits)[0, 0, 0, 0], layer(logits.roll(16, dims=3))[0, 0, 0, 16], atol=1e-6)


def test_the_weight_of_an_auxiliary_loss_moves_to_its_last_value() -> None:
    heads = (config.Aux(weight=0.4, final_weight=0.0), config.Aux(stage=3, weight=0.1))
    assert auxiliary.loss_weights(heads, 0.0) == (1.0, 0.4, 0.1)
    assert auxiliary.loss_weights(heads, 0.5) == pytest.approx((1.0, 0.2, 0.1))
    assert auxiliary.loss_weights(heads, 1.0) == pytest.approx((1.0, 0.0, 0.1))


@pytest.mark.parametrize("name", SMALL)
def test_group_norm_keeps_scale_shift_and_names(name: str) -> None:
    batch, group = build(settings(name)), build(settings(name, norm="group"))
    norms = {key: module for key, module in batch.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in group.modules())
    for key in norms:
        module = group.get_submodule(key)
        assert isinstance(module, nn.GroupNorm)
        assert module.num_channels % module.num_groups == 0
        assert module.num_channels // module.num_groups >= min(8, module.num_channels)
    assert [key for key, _ in group.named_parameters()] == [key for key, _ in batch.named_parameters()]
    logits = group.train()(pictures(batch=1)).logits
    logits.square().mean().backward()
    assert torch.isfinite(logits).all()


def test_group_norm_within_timms_norm_keeps_its_activation() -> None:
    chosen = config.Model(name="upernet", encoder="tu-efficientnet_lite0", decoder_channels=(16,), norm="group")
    network = build(chosen)
    activated = [module for module in network.encoder.modules() if type(module).__name__ == "_Activated"]
    assert len(activated) > 10
    assert (activated[0](torch.randn(1, activated[0].num_channels, 4, 4)) >= 0).all()


@pytest.mark.parametrize("name", SMALL)
def test_checkpointing_changes_no_gradient_and_no_statistic(name: str) -> None:
    images, made = pictures(), []
    for checkpointing in (False, True):
        network = build(settings(name, checkpointing=checkpointing, aux=[{"stage": 4}])).train()
        torch.manual_seed(2)
        output = network(images)
        (output.logits.square().mean() + output.aux[0].square().mean()).backward()
        made.append(network)
    plain, twice = made
    assert sum(type(module).__name__.startswith("Recomputing") for module in twice.modules()) > 4
    gradients = dict(plain.named_parameters())
    for key, parameter in twice.named_parameters():
        assert torch.equal(parameter.grad, gradients[key].grad), key
    for key, buffer in twice.named_buffers():
        assert torch.equal(buffer, plain.get_buffer(key)), key


@pytest.mark.parametrize("name", ["unet", "segformer"])
def test_checkpointing_can_be_compiled(name: str) -> None:
    made = []
    for compiled in (False, True):
        torch.manual_seed(1)
        network = build(settings(name, checkpointing=True, norm="batch")).train()
        # The graph and its derivative are those of every backend; only the code for them is not made.
        model = torch.compile(network, backend="aot_eager") if compiled else network
        torch.manual_seed(2)
        model(pictures()).logits.square().mean().backward()
        made.append(network)
    eager, graph = made
    assert all(parameter.grad is not None for parameter in graph.parameters())
    for (key, one), other in zip(eager.named_parameters(), graph.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-5, msg=key)
    for key, buffer in graph.named_buffers():
        torch.testing.assert_close(buffer, eager.get_buffer(key), msg=key)


def test_checkpointing_keeps_less() -> None:
    kept = []
    for checkpointing in (False, True):
        network = build(settings("segformer", checkpointing=checkpointing)).train()
        sizes: list[int] = []

        def pack(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(pictures())
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


def test_an_encoder_without_blocks_cannot_be_checkpointed() -> None:
    assert list(recompute.blocks(nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1), nn.ReLU()))) == []
    with pytest.raises(ConfigError, match=r"model\.checkpointing: vgg11 has no blocks"):
        build(config.Model(encoder="vgg11", checkpointing=True))
