"""A calibration keeps what helps and nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from carpus import calibrate, config, crossfit, data, evaluate, phantom, run, train
from carpus.cli import app
from carpus.crossfit import Measured, candidates, families
from carpus.errors import ConfigError, DataError, DataWarning
from carpus.formats import files
from carpus.labels import BONES, Classes
from carpus.postprocess import Calibration
from carpus.predict import Ensemble, Options
from carpus.views import views

FOUR = Classes(("a", "b", "c", "d"))


def drawn(seed: int, patients: int = 40, members: int = 1) -> Measured:
    """Two images a patient, no candidate better than another: noise around a patient's own level."""
    random = np.random.default_rng(seed)
    level = np.repeat(random.normal(0.95, 0.01, (patients, 1, 1)), 2, axis=0)
    dice = level + random.normal(0, 0.003, (2 * patients, len(candidates(members)), 4))
    loss = 1 - level + random.normal(0, 0.003, (2 * patients, 1 + len(families(members)["temperature"]), 4))
    return Measured(np.repeat([f"ID{n:03}" for n in range(patients)], 2), dice, loss)


def place(**wanted: object) -> int:
    """Which candidate of two members it is."""
    [(kind, value)] = wanted.items()
    return next(n for n, step in enumerate(candidates(2)) if getattr(step, kind) == value)


@pytest.mark.parametrize("members", [1, 2])
def test_where_nothing_helps_nothing_is_kept(members: int) -> None:
    kept = sum(bool(crossfit.fit(drawn(seed, members=members), FOUR, members)[0]) for seed in range(60))
    # 5 % at most by design; 60 draws could show 8 by chance once in a hundred.
    assert kept <= 8


def test_what_helps_is_kept_with_its_effect() -> None:
    measured = drawn(0, members=2)
    for better in (place(threshold=0.35), place(fill=True), place(weights=(2.0, 1.0))):
        measured.dice[:, better, 1] += 0.01
    steps, tried = crossfit.fit(measured, FOUR, 2)
    assert [(each.name, each.kind) for each in tried] == [(name, kind) for kind in families(2) for name in FOUR]
    kept = [each for each in tried if each.kept]
    refused = [each for each in tried if not each.kept]
    assert all(each.low <= 0 or each.value is None for each in refused)
    assert all(each.low < each.effect < each.high for each in tried if each.value is not None)
    assert set(steps) == {"b"}
    assert steps["b"].threshold == pytest.approx(0.35)
    assert (steps["b"].fill, steps["b"].largest, steps["b"].weights) == (True, False, (2.0, 1.0))
    assert [(each.kind, each.measure) for each in kept] == [(k, "dice") for k in ("threshold", "fill", "weights")]
    for each in kept:
        assert each.low < 0.01 < each.high
        assert each.effect == pytest.approx(0.01, abs=0.002)


def test_a_temperature_is_chosen_by_likelihood_unless_it_costs_dice() -> None:
    measured = drawn(0)
    hot = place(temperature=2.0)
    measured.loss[:, hot, :2] -= 0.01
    measured.dice[:, hot, 0] = measured.dice[:, 0, 0]
    measured.dice[:, hot, 1] = measured.dice[:, 0, 1] - 0.001
    measured.dice[:, place(threshold=0.35), 0] += 0.01
    steps, tried = crossfit.fit(measured, FOUR)
    assert [(each.name, each.kind, each.measure) for each in tried if each.kept] == [
        ("a", "temperature", "nll"),
        ("a", "threshold", "dice"),
    ]
    # Cut where 0.35 cuts without a temperature.
    logit = torch.logit(torch.tensor(steps["a"].threshold)) * steps["a"].temperature
    assert torch.sigmoid(logit).item() == pytest.approx(0.35)


def test_patients_count_not_images() -> None:
    gains = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    patients = np.array(["a", "a", "a", "a", "b", "c"])
    mean, low, high = crossfit.interval(gains, patients, 0.05)
    assert mean == pytest.approx(1 / 3)
    assert high - mean == pytest.approx(mean - low) == pytest.approx(4.3027 / 3, abs=1e-4)  # t of 2, 0.975
    assert crossfit.interval(gains[:4], patients[:4], 0.05)[1] == -np.inf


@pytest.fixture(scope="module")
def folds(tiny: Callable[..., config.Config], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[run.Run]]:
    """A data folder of ten patients, and the two folds of two recipes."""
    root = tmp_path_factory.mktemp("folds")
    phantom.write(root / "data", patients=10, test_patients=0, size=64, seed=2)
    for fold in (0, 1):
        train.train(tiny(f"data.fold={fold}", "data.label_size=64", "train.steps=2"), root / "data", root / f"{fold}")
    first = [run.read(root / f"{fold}") for fold in (0, 1)]
    return root / "data", [*first, *(_another(each) for each in first)]


def _another(trained: run.Run) -> run.Run:
    """What another seed might have given, without its training: all weights a little different."""
    path = Path(shutil.copytree(trained.path, trained.path.with_name(f"{trained.path.name}-other")))
    settings = (path / run.CONFIG).read_text()
    (path / run.CONFIG).write_text(settings.replace("seed: 0", "seed: 1"))
    weights = safetensors.torch.load_file(path / run.WEIGHTS)
    safetensors.torch.save_file({name: of * 1.01 for name, of in weights.items()}, path / run.WEIGHTS)
    manifest = json.loads((path / run.MANIFEST).read_text())
    manifest["files"] = {name: files.sha256(path / name) for name in manifest["files"]}
    (path / run.MANIFEST).write_text(json.dumps(manifest))
    return run.read(path)


def test_runs_of_two_folds_become_a_calibration(
    folds: tuple[Path, list[run.Run]], tmp_path: Path, dataset: Path, trained: Path
) -> None:
    root, runs = folds
    done: list[tuple[int, int]] = []
    found = calibrate.calibrate(runs[:2], root, tmp_path / "c.json", progress=lambda *now: done.append(now))
    assert (found.images, found.patients, done[-1]) == (20, 10, (40, 40))
    assert found.members == ((runs[0].path, runs[1].path),)
    assert [effect.measure for effect in found.effects] == ["dice", "nll", "ece"]
    for effect in found.effects[:2]:
        assert effect.low <= effect.gain <= effect.high
    assert Calibration.read(tmp_path / "c.json", BONES).steps == found.calibration.steps
    assert json.loads((tmp_path / "c.json").read_text())["effects"][0]["gain"] == found.effects[0].gain
    copy = run.read(shutil.copytree(runs[0].path, tmp_path / "copy"))
    with pytest.raises(ConfigError, match=r"holds out ID\d+, as .* does"):
        calibrate.calibrate([runs[0], copy], root, tmp_path / "d.json")
    with pytest.raises(ConfigError, match="at least one run"):
        calibrate.calibrate([], root, tmp_path / "d.json")
    with pytest.raises(ConfigError, match="2 patients are held out"):
        calibrate.calibrate([run.read(trained)], dataset, tmp_path / "d.json")
    assert not (tmp_path / "d.json").exists()
    Calibration.require_place(tmp_path / "c.json")
    (tmp_path / "d.json").write_text('{"classes": {}}')
    with pytest.raises(DataError, match=r"d\.json: is there already and is something else, no calibration"):
        calibrate.calibrate(runs[:2], root, tmp_path / "d.json")
    assert (tmp_path / "d.json").read_text() == '{"classes": {}}'


def test_the_folds_of_two_recipes_are_an_ensemble_of_two_members(
    folds: tuple[Path, list[run.Run]], tmp_path: Path
) -> None:
    root, runs = folds
    found = calibrate.calibrate([runs[n] for n in (0, 2, 3, 1)], root, tmp_path / "c.json")
    assert (found.images, found.patients) == (20, 10)
    assert found.members == ((runs[0].path, runs[1].path), (runs[2].path, runs[3].path))
    weights = [each.manifest["files"][run.WEIGHTS] for each in runs]
    assert found.calibration.members == ((weights[0], weights[1]), (weights[2], weights[3]))
    with pytest.raises(ConfigError, match="hold out other patients; take --split test"):
        evaluate.evaluate(runs[:2], data.read(root), "val")
    with pytest.raises(ConfigError, match="do not hold out the same patients"):
        calibrate.calibrate(runs[:3], root, tmp_path / "d.json")
    with pytest.raises(ConfigError, match="votes have no probability"):
        calibrate.calibrate(runs, root, tmp_path / "d.json", options=Options(blend="votes"))


def test_what_is_kept_is_told_with_what_comes_next(
    folds: tuple[Path, list[run.Run]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, runs = folds
    paths = [str(each.path) for each in runs]
    command = ["calibrate", *paths, "--data", str(root), "--out", str(tmp_path / "c.json"), "--flip", "--turn", "5"]
    hot = crossfit.Tried("Radius", "temperature", 2.0, "nll", 0.01, 0.001, 0.02, True)
    alone = crossfit.Tried("Ulna", "weights", (0.0, 0.5), "dice", 0.01, 0.001, 0.02, True)
    refused = crossfit.Tried("Ulna", "fill", True, "dice", 0.01, -0.001, 0.02, False)
    for found, told in (
        (({}, (refused,)), ["None of 1 steps helps beyond chance", "on patients it was not fitted on"]),
        (
            ({"Radius": crossfit.Step(temperature=2.0)}, (hot, refused)),
            [
                "1 of 2 steps are kept",
                "Temperatures move labels only",
                "fill: not kept for 1, of which Ulna, +0.0100 dice (-0.0010 to +0.0200) is best",
                f"next: carpus predict {' '.join(paths)} --images DIR --out sub.csv --flip --turn 5.0 --calibration ",
            ],
        ),
        (
            ({"Ulna": crossfit.Step(weights=(0.0, 0.5))}, (alone, refused)),
            ["0 : 0.5", f"Weights are those of {' '.join(paths[:2])} : {' '.join(paths[2:])}."],
        ),
    ):
        monkeypatch.setattr(crossfit, "fit", lambda *_, found=found: found)
        shown = CliRunner().invoke(app, command)
        assert shown.exit_code == 0, shown.output
        assert [line for line in told if line not in shown.output] == []
        assert ("next:" in shown.output) == bool(found[0])


def test_a_component_is_small_beside_what_its_class_usually_is() -> None:
    usual = dict(zip(BONES, crossfit.usual_shares(BONES), strict=True))
    assert sum(usual.values()) == pytest.approx(1)
    assert usual["Radius"] > 5 * usual["Pisiform"] > 0
    assert crossfit.for_class(crossfit.Step(least=0.2), usual["Radius"]).least == pytest.approx(
        0.2 * usual["Radius"], abs=1e-6
    )
    assert crossfit.usual_shares(FOUR).tolist() == [0.25] * 4


def test_a_calibration_doubts_other_runs_and_other_options(folds: tuple[Path, list[run.Run]], tmp_path: Path) -> None:
    _, runs = folds
    hashes = [each.manifest["files"][run.WEIGHTS] for each in runs]
    fitted = Options(views=views(flip=True))
    Calibration({}, BONES, [hashes[:2]], fitted.facts()).write(tmp_path / "c.json")
    found = Calibration.read(tmp_path / "c.json", BONES)
    Ensemble.of(runs[:1], "cpu", Options(views=views(flip=True), batch=2), calibration=found)
    with pytest.warns(DataWarning, match=r"c\.json: was fitted on other runs"):
        Ensemble.of(runs[1:3], "cpu", fitted, calibration=found)
    with pytest.warns(DataWarning, match=r"c\.json: was fitted with other views, blend; give"):
        Ensemble.of(runs[:2], "cpu", Options(blend="logits"), calibration=found)


def test_the_weights_of_members_are_those_of_their_runs(folds: tuple[Path, list[run.Run]], tmp_path: Path) -> None:
    _, runs = folds
    hashes = [each.manifest["files"][run.WEIGHTS] for each in runs]
    steps = {name: crossfit.Step(weights=(0.0, 1.0)) for name in BONES}
    Calibration(steps, BONES, [hashes[:2], hashes[2:]]).write(tmp_path / "c.json")
    second = Calibration.read(tmp_path / "c.json", BONES)
    assert second.weights_of(hashes).tolist() == [[0.0] * 29] * 2 + [[0.5] * 29] * 2
    assert Calibration({}, BONES, [hashes]).weights_of(hashes) is None
    image = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    together = Ensemble.of(runs, "cpu", calibration=second).look(image)[0]
    assert torch.allclose(together, Ensemble.of(runs[2:], "cpu").look(image)[0], atol=1e-5)
    with pytest.raises(ConfigError, match=r"c\.json: weighs 2 members"):
        Ensemble.of(runs[:2], "cpu", calibration=second)
    with pytest.raises(ConfigError, match="the calibration has its own"):
        Ensemble.of(runs, "cpu", Options(weights=(1, 1, 1, 1)), calibration=second)
