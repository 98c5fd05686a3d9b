"""What is said beforehand of memory and time, and that a training then takes it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from carpus import capacity, config, estimate, job, models, plan
from carpus.cli import app
from carpus.errors import CapacityError, ConfigError, DataWarning
from carpus.estimate import Measured, Plan
from carpus.models.additions import recompute

Tiny = Callable[..., config.Config]


def here(settings: config.Config, root: Path) -> Plan:
    """What another process would come to."""
    return list(plan.measure(settings, root))[-1]


@pytest.fixture(scope="module")
def measured(dataset: Path, tiny: Tiny) -> Plan:
    return here(tiny("train.batch_size=8"), dataset)


@pytest.fixture
def planned(measured: Plan) -> Plan:
    """The same with figures that can be computed with: 100 MiB and 50 for each image, in 1 s each."""
    steps = tuple(Measured(images, 100.0 + 50 * images, float(images)) for images in (0, 2, 4))
    return replace(measured, measured=steps, other_mib=0.0, cache_mib=0.0, available_mib=1000.0)


def test_a_plan_leaves_nothing_behind(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(
        app, ["train", "demo", "--data", str(dataset), "--plan", "--set=data.folds=2", "--set=data.image_size=64"]
    )
    assert shown.exit_code == 0, shown.output
    assert "memory" in shown.output
    assert "600 steps of" in shown.output
    told = shown.stderr.splitlines()  # warnings may be among them
    first = told.index("reading the data, building the network and validating an image")
    assert "measuring 5 steps of 2 images at once" in told[first:]
    assert "measuring" not in shown.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "more", [["--plan", "--gate"], ["--plan", "--resume"], ["--gate", "--resume"], ["--gate", "--overwrite"]]
)
def test_what_a_plan_or_a_gate_would_drop_is_refused(more: list[str], tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["train", "demo", "--data", str(tmp_path), "--out", str(tmp_path / "run"), *more])
    assert shown.exit_code == 2
    assert "expected one of them, without --resume and --overwrite" in " ".join(shown.stderr.split())


def test_a_network_that_sees_a_single_pixel_is_planned(dataset: Path, tiny: Tiny) -> None:
    found = here(tiny("data.image_size=32", "data.label_size=64", "train.batch_size=4"), dataset)
    assert [step.images for step in found.measured] == [0, 3, 4]


COMPARED = """
import json, sys
from pathlib import Path
from carpus import config, plan, run, train

settings = config.load(["demo"], sys.argv[3:])
planned = plan.plan(settings, Path(sys.argv[1]))
train.train(settings, Path(sys.argv[1]), Path(sys.argv[2]))
done = run.read(sys.argv[2]).manifest
seconds = sum(value for name, value in done["seconds_by_phase"].items() if name != "prepare")
print(json.dumps([planned.seconds, seconds, planned.needed_mib, max(done["peak_mib_by_phase"].values())]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["model.aux=[{stage: 4}]", "model.checkpointing=true", "data.crop=96"]])
def test_a_run_takes_what_was_planned(more: list[str], dataset: Path, tmp_path: Path) -> None:
    sizes = ["data.image_size=128", "data.label_size=256", "data.folds=2", "train.batch_size=8"]
    length = ["train.steps=12", "train.validate_every=6"]
    command = [sys.executable, "-c", COMPARED, str(dataset), str(tmp_path / "run"), *sizes, *length, *more]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    planned_s, taken_s, planned_mib, taken_mib = json.loads(done.stdout.splitlines()[-1])
    assert planned_s == pytest.approx(taken_s, rel=1.0, abs=5)  # others use the machine, too
    assert planned_mib == pytest.approx(taken_mib, rel=0.3)


def test_what_is_measured_is_what_is_trained(dataset: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[int] = []
    compiled: list[bool] = []
    forward = models.Network.forward
    monkeypatch.setattr(
        models.Network,
        "forward",
        lambda network, images: (heads.append(len(network.aux) * images.shape[-1]), forward(network, images))[1],
    )
    monkeypatch.setattr("carpus.devices.compiled", lambda network: (compiled.append(True), network)[1])
    settings = tiny("model.aux=[{stage: 4}]", "train.compile=true", "data.crop=32", "train.batch_size=4")
    here(settings, dataset)
    assert set(heads) == {32, 64}  # windows to learn from, whole images to validate on
    assert compiled


def test_what_does_not_fit_is_said_with_what_does(planned: Plan) -> None:
    assert planned.memory(8) == 500
    assert planned.fits
    assert "does not fit" not in str(planned)
    small = replace(planned, available_mib=350 / estimate.ROOM)
    assert not small.fits
    assert small.parts() == 2
    assert replace(planned, other_mib=400.0, available_mib=350 / estimate.ROOM).parts() is None
    assert "does not fit, and nothing is known to take less" in str(replace(planned, available_mib=1.0))


def test_processes_of_a_machine_share_its_memory_and_the_batch(planned: Plan) -> None:
    four = replace(planned, processes=(2, 2))  # two machines of two
    assert (planned.part, planned.needed_mib) == (8, 500)
    assert (four.part, four.needed_mib) == (2, 400)  # 200 MiB in each of two
    assert "2 at once in each of 2 processes" in str(four)
    assert not replace(four, available_mib=300 / estimate.ROOM).fits
    assert replace(four, available_mib=300 / estimate.ROOM, gpu=True).fits  # which each has for itself


def test_processes_that_were_launched_are_planned_and_only_one_plans(
    dataset: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    shown = CliRunner().invoke(app, ["train", "demo", "--data", str(dataset), "--plan"])
    assert (shown.exit_code, shown.output) == (0, "")
    monkeypatch.setattr(plan, "_steps", lambda job, launcher, images: pytest.skip(f"{images}"))
    with pytest.raises(pytest.skip.Exception, match="2"):
        here(tiny("train.batch_size=4"), dataset)


def test_a_size_that_the_encoder_refuses_is_named(dataset: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.Network, "forward", lambda *_: (_ for _ in ()).throw(AssertionError("height (16)")))
    with pytest.raises(ConfigError, match=r"model\.encoder: .* does not take 64 pixels: height \(16\)"):
        here(tiny(), dataset)


@pytest.mark.parametrize(
    ("options", "window"),
    [
        (["data.image_size=512", "data.label_size=2048"], 256),
        (["data.image_size=192", "data.label_size=192", "model.down={}"], 64),  # 96 is no multiple of 64
        (["data.image_size=160", "data.label_size=256"], None),  # half the pixels would be no whole number
        (["data.image_size=1056", "data.label_size=2048"], None),
        (["data.image_size=96"], None),
    ],
)
def test_a_window_that_is_advised_is_one_that_can_be_taken(options: list[str], window: int | None) -> None:
    chosen = config.load(["unet"], options)
    advised = [way for way in capacity.ways(chosen) if way.startswith("data.crop=")]
    assert advised == ([f"data.crop={window}"] if window else [])
    for way in advised:
        job._check(config.changed(chosen, way), chosen.data.label_size or 0, 1)


def test_what_takes_less_is_measured_too(dataset: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    twice: list[object] = []
    once = recompute.recompute
    monkeypatch.setattr(recompute, "recompute", lambda block: (twice.append(block), once(block))[1])
    monkeypatch.setattr(plan, "available_mib", lambda gpu: 1.0)
    monkeypatch.setattr(plan, "apart", lambda settings, root, tell: here(settings, root))
    found = plan.plan(tiny("data.image_size=128", "model.stride=4"), dataset)
    assert twice
    assert list(found.others) == ["model.checkpointing=true", "data.crop=64"]
    assert "  model.checkpointing=true: " in str(found)
    assert "does not fit either" in str(found)


def test_a_way_that_fits_only_in_parts_is_said_with_them(planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    tight, told = replace(planned, available_mib=200 / estimate.ROOM), list[str]()

    def apart(settings: config.Config, root: Path, tell: plan.Tell) -> Plan:
        tell("measuring")
        return replace(tight, settings=settings)

    monkeypatch.setattr(plan, "apart", apart)
    others = plan._others(tight, Path(), told.append)
    assert told[0] == "model.checkpointing=true: measuring"
    assert "train.accumulate=4" in others
    assert "model.checkpointing=true train.accumulate=4" in others
    assert all(other.fits for other in others.values())


def test_a_loss_over_the_batch_is_planned_in_one_part(planned: Plan) -> None:
    whole = replace(planned, settings=config.changed(planned.settings, "train.loss_over=batch"))
    assert replace(planned, available_mib=200 / estimate.ROOM).parts() == 4
    assert replace(whole, available_mib=200 / estimate.ROOM).parts() is None
    assert whole.parts() == 1


def test_time_is_that_of_all_steps_validations_and_saves(planned: Plan) -> None:
    told = replace(planned, validation_seconds=15.0, validated=2, save_seconds=0.5)
    assert told.step_seconds == 8
    assert told.seconds == 3 * 8 + 2 * 2 * 15 + 2 * 0.5
    assert "1 min 25 s: 3 steps of 8.00 s, a validation of 2 x 15.00 s every 2" in str(told)


def test_devices_and_parts_share_the_images(planned: Plan) -> None:
    assert planned.part == 8
    two = planned.settings.model_copy(
        update={"train": planned.settings.train.model_copy(update={"devices": 2, "accumulate": 2})}
    )
    assert replace(planned, settings=two, processes=(2, 1)).part == 2


def test_a_save_with_a_validation_is_one(planned: Plan) -> None:
    train = planned.settings.train.model_copy(update={"steps": 7, "validate_every": 4, "save_every": 2})
    told = replace(planned, settings=planned.settings.model_copy(update={"train": train}), validation_seconds=0.0)
    assert replace(told, save_seconds=100.0).seconds == 7 * told.step_seconds + 4 * 100  # after 2, 4, 6 and 7


def test_images_for_which_there_was_no_memory_do_not_fit(planned: Plan) -> None:
    told = replace(planned, too_many=4)
    assert told.parts() == 4  # two at once
    assert told.step_seconds == 8
    assert str(told).startswith("memory   more than the 1.0 GiB free: 4 images at once were too many\ntime ")
    none = replace(planned, measured=planned.measured[:1], too_many=2)
    assert none.parts() is None
    fits = replace(planned, validation_seconds=0.0, save_seconds=0.0)
    told = f"{replace(none, others={'data.crop=32': none, 'train.accumulate=8': fits})}"
    assert told.splitlines() == [
        "memory   more than the 1.0 GiB free: 2 images at once were too many",
        "does not fit; what takes less:",
        "  data.crop=32: does not fit either",
        "  train.accumulate=8: 0.5 GiB, 0 min 24 s, fits",
    ]


def test_where_two_images_are_too_many_one_is_tried(planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def apart(settings: config.Config, root: Path, tell: plan.Tell) -> Plan:
        first = Measured(0, 100.0, 0.0)
        steps = (first, Measured(1, 150.0, 1.0)) if settings.train.accumulate == 8 else (first,)
        return replace(planned, settings=settings, measured=steps, too_many=None if len(steps) == 2 else 2)

    monkeypatch.setattr(plan, "apart", apart)
    found = plan.plan(planned.settings, Path())
    assert next(iter(found.others)) == "train.accumulate=8"
    assert [other.fits for other in found.others.values()] == [True] + [False] * (len(found.others) - 1)


def test_memory_that_runs_out_is_an_answer(dataset: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = plan._steps

    def lacking(job: job.Job, launcher: object, images: int) -> object:
        if images > 2:
            raise MemoryError
        return steps(job, launcher, images)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(plan, "_steps", lacking)
    found = here(tiny("train.batch_size=8"), dataset)
    assert [step.images for step in found.measured] == [0, 2]
    assert found.too_many == 4


GREEDY = """
import carpus.plan, numpy
from carpus import errors
carpus.plan.available_mib = lambda gpu: 4000.0
steps, held = carpus.plan._steps, []
def greedy(job, launcher, images):
    if images > 2:
        while True:
            held.append(numpy.ones(8 << 20))
    errors.warn("said while measuring")
    return steps(job, launcher, images)
carpus.plan._steps = greedy
"""


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have the process that measures begin with some lines of Python."""

    def write(lines: str) -> None:
        (tmp_path / "lines.py").write_text(lines)
        # Another process is started beside it, which only counts what is shared.
        (tmp_path / "sitecustomize.py").write_text(
            "import sys\nif any('spawn_main' in word for word in sys.orig_argv):\n    import lines\n"
        )
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))

    return write


def test_a_measurement_that_takes_too_much_memory_is_ended(
    dataset: Path, tiny: Tiny, begin: Callable[[str], None]
) -> None:
    begin(GREEDY)
    with pytest.warns(DataWarning, match="said while measuring"):
        found = plan.apart(tiny("train.batch_size=8"), dataset, print)
    assert [step.images for step in found.measured] == [0, 2]
    assert found.too_many == 4
    assert found.parts() == 4


def test_a_process_killed_before_it_measured_is_a_lack_of_memory(
    dataset: Path, tiny: Tiny, begin: Callable[[str], None]
) -> None:
    begin("import os\nos.kill(os.getpid(), 9)")
    with pytest.raises(CapacityError, match="out of memory before the first step; what takes less"):
        plan.apart(tiny(), dataset, print)


def test_what_training_would_refuse_is_not_planned(dataset: Path, tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match="3 images cannot be cut into equal parts for 2 devices"):
        plan.plan(tiny("train.batch_size=3", "train.devices=2"), dataset)
    with pytest.raises(ConfigError, match=r"train\.loss_over: batch .* 2 devices"):
        here(tiny("train.devices=2", "train.loss_over=batch"), dataset)
