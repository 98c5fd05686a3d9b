"""More steps for a finished run: `--continue`."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas
import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from carpus import config, data, evaluate, loop, run, train
from carpus.cli import app
from carpus.errors import ConfigError, DataError
from carpus.job import Job
from carpus.progress import Step
from carpus.pseudo import decisions
from carpus.state import Parts, State

Tiny = Callable[..., config.Config]

CONSTANT = ("train.schedule=constant", "train.warmup=0", "train.validate_every=4")


def measure(dice: Mapping[int, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the validation after each step come to what is given."""
    validate = loop._validate

    def told(job: Job, parts: Parts, state: State, *more: Any) -> float:
        monkeypatch.setattr(evaluate, "mean", lambda table: dice[state.step])
        return validate(job, parts, state, *more)

    monkeypatch.setattr(loop, "_validate", told)


def test_a_longer_run_is_the_run_of_so_many_steps(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    every = ("train.horizon=6", "train.validate_every=2", "train.ema=0.9", "train.keep=best")
    train.train(tiny("train.steps=6", *every), dataset, tmp_path / "whole")
    train.train(tiny("train.steps=4", *every), dataset, tmp_path / "run")
    shown = CliRunner().invoke(app, ["train", "--continue", str(tmp_path / "run"), "--steps", "6"])
    assert shown.exit_code == 0, shown.output
    assert "schedule of one run" in shown.output
    whole, longer = load_file(tmp_path / "whole" / run.WEIGHTS), load_file(tmp_path / "run-6" / run.WEIGHTS)
    assert all(whole[name].equal(longer[name]) for name in whole)
    curves = [pandas.read_csv(tmp_path / of / run.METRICS) for of in ("whole", "run-6")]
    assert curves[0].drop(columns="images_per_second").equals(curves[1].drop(columns="images_per_second"))
    continued = run.read(tmp_path / "run-6").manifest["continued"]
    assert (continued["steps"], continued["schedule"]) == (4, "of one run")
    assert run.read(tmp_path / "run").manifest["steps"] == 4  # the shorter run is as it was
    again = CliRunner().invoke(app, ["train", "--continue", str(tmp_path / "run"), "--steps", "6"])
    assert again.exit_code == 0, again.output
    assert "run-6: is finished" in again.stderr


@pytest.mark.parametrize("keep", ["last", "best"])
def test_the_last_validation_of_the_shorter_run_does_not_count_for_patience(
    keep: str, dataset: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure({4: 0.5, 6: 0.4, 8: 0.3, 12: 0.2, 16: 0.1}, monkeypatch)
    every = (*CONSTANT, "train.patience=2", f"train.keep={keep}")
    train.train(tiny("train.steps=16", *every), dataset, tmp_path / "whole")
    train.train(tiny("train.steps=6", *every), dataset, tmp_path / "run")
    longer, _ = train.lengthen(tmp_path / "run", 16, dataset)
    found = [run.read(of).manifest for of in (tmp_path / "whole", longer)]
    assert [(of["steps"], of["stopped_early"], of["weights"]["step"]) for of in found] == [
        (12, True, 4 if keep == "best" else 12)
    ] * 2
    assert found[1]["continued"]["schedule"] == "of one run"
    weights = [load_file(of / run.WEIGHTS) for of in (tmp_path / "whole", longer)]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_last_validation_that_was_the_best_counts_only_where_its_weights_were_kept(
    keep: str, dataset: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure({4: 0.3, 6: 0.5, 8: 0.4}, monkeypatch)
    train.train(tiny("train.steps=6", *CONSTANT, f"train.keep={keep}"), dataset, tmp_path / "run")
    longer, dice = train.lengthen(tmp_path / "run", 8, dataset)
    manifest = run.read(longer).manifest
    more = ", and one validation more: after step 6, the best so far" if keep == "best" else ""
    assert manifest["continued"]["schedule"] == f"of one run{more}"
    assert (manifest["weights"]["step"], dice) == ((6, 0.5) if keep == "best" else (8, 0.4))


def test_a_restarted_schedule_is_named(trained: Path, dataset: Path, tmp_path: Path) -> None:
    seen: list[Step] = []
    out, _ = train.lengthen(trained, 5, dataset, tmp_path / "longer", watch=seen.append)
    assert [now.step for now in seen] == [4, 5]
    assert run.read(out).manifest["continued"]["schedule"] == "restarted"
    assert run.read(out).settings.train.schedule_start == 3


def test_an_interrupted_longer_run_goes_on(trained: Path, dataset: Path, tmp_path: Path) -> None:
    def stop(now: Step) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "longer"
    with pytest.raises(KeyboardInterrupt):
        train.lengthen(trained, 5, dataset, out, watch=stop)
    train.lengthen(trained, 5, dataset, out, resume=True)
    straight, _ = train.lengthen(trained, 5, dataset, tmp_path / "straight")
    first, second = load_file(out / run.WEIGHTS), load_file(straight / run.WEIGHTS)
    assert all(first[name].equal(second[name]) for name in first)


def test_a_longer_run_has_no_scores_of_the_shorter_ones_weights(trained: Path, dataset: Path, tmp_path: Path) -> None:
    shorter = Path(shutil.copytree(trained, tmp_path / "shorter"))
    evaluate.save(shorter, evaluate.load(shorter).assign(split="test"))
    assert set(evaluate.load(shorter)["split"]) == {"val", "test"}
    longer, _ = train.lengthen(shorter, 5, dataset)
    assert set(evaluate.load(longer)["split"]) == {"val"}


def test_a_run_without_a_state_cannot_be_longer(trained: Path, dataset: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(trained, tmp_path / "bare", ignore=shutil.ignore_patterns("state")))
    with pytest.raises(DataError, match="holds no state of the last step to go on from"):
        train.lengthen(bare, 5, dataset)


def test_other_data_are_no_longer_run(trained: Path, dataset: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "data"))
    annotation = next((root / "train" / "outputs_json").rglob("*.json"))
    annotation.write_text(annotation.read_text() + " ")
    with pytest.raises(DataError, match=r"data: is other data than .*run was trained on \(data\.all in its manifest"):
        train.lengthen(trained, 5, root, tmp_path / "longer")
    assert not (tmp_path / "longer").exists()


def test_decisions_made_or_taken_back_since_are_other_data(
    trained: Path, dataset: Path, tiny: Tiny, tmp_path: Path
) -> None:
    root = shutil.copytree(dataset, tmp_path / "data")
    name = data.read(root).train[0].name
    decisions.decide(root, name, "Lunate", "accept")
    decided = tmp_path / "decided"
    train.train(tiny("train.steps=1"), root, decided)
    by = r"\(data\.trust in its manifest\.json, by decisions\.csv\)"
    with pytest.raises(DataError, match=by):
        train.lengthen(trained, 5, root, tmp_path / "longer")
    decisions.decide(root, name, "Lunate", None)
    with pytest.raises(DataError, match=by):
        train.lengthen(decided, 2, root, tmp_path / "longer")
    assert not (tmp_path / "longer").exists()


def test_fewer_steps_are_refused(trained: Path, dataset: Path) -> None:
    with pytest.raises(ConfigError, match="has 3 steps already"):
        train.lengthen(trained, 3, dataset)


def test_a_recipe_beside_continue_is_refused(trained: Path) -> None:
    shown = CliRunner().invoke(app, ["train", "demo", "--continue", str(trained), "--steps", "9"])
    assert shown.exit_code == 2
    assert "the settings are those of RUN" in " ".join(shown.stderr.split())


def test_training_stops_early_where_nothing_improves_and_keeps_the_best(
    dataset: Path, tiny: Tiny, tmp_path: Path
) -> None:
    settings = tiny(
        "train.steps=20", "train.validate_every=1", "train.patience=2", "train.keep=best", "train.learning_rate=1e-9"
    )
    train.train(settings, dataset, tmp_path / "run")
    manifest = run.read(tmp_path / "run").manifest
    curve = pandas.read_csv(tmp_path / "run" / run.METRICS)
    best = curve.loc[curve["val_dice"].idxmax()]
    assert manifest["stopped_early"]
    assert manifest["steps"] == best["step"] + 2 < 20
    assert manifest["weights"]["step"] == best["step"]
    assert manifest["val_dice"] == pytest.approx(best["val_dice"], abs=1e-12)
    assert manifest["weights"]["note"] == "the validation patients chose this step, so their Dice is optimistic"
    assert pandas.read_csv(tmp_path / "run" / "scores.csv")["value"].mean() == pytest.approx(manifest["val_dice"])
    shown = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--data", str(dataset)])
    assert "the validation patients chose this step" in " ".join(shown.output.split())
    page = (tmp_path / "run" / "report.html").read_text()
    assert "the validation patients chose this step" in page
