"""Training leaves a complete, checked run folder; the same seed gives the same weights."""

import fcntl
import json
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
import torch
from safetensors.torch import load_file

from carpus import config, data, evaluate, run, train
from carpus.errors import ConfigError, DataError
from carpus.progress import Step

Tiny = Callable[..., config.Config]


def test_a_run_folder_is_complete(trained: Path, dataset: Path, tiny: Tiny) -> None:
    found = run.read(trained)
    assert config.load([trained / "config.yaml"]) == found.settings == tiny()
    assert len(found.manifest["data"]["sha256"]) == 64
    assert not set(found.manifest["train_patients"]) & set(found.manifest["val_patients"])
    assert found.manifest["versions"]["torch"] == torch.__version__.split("+")[0]
    assert tuple(found.classes.groups["forearm"]) == ("Radius", "Ulna")
    metrics = pandas.read_csv(trained / "metrics.csv")
    assert metrics["step"].tolist() == [2, 3]
    assert metrics["val_dice"].notna().tolist() == [True, False]
    scores = pandas.read_csv(trained / "scores.csv")
    assert tuple(scores.columns) == evaluate.COLUMNS
    assert len(scores) == 4 * 29
    assert set(scores["patient"]) == set(found.manifest["val_patients"])
    assert found.manifest["val_dice"] == pytest.approx(evaluate.mean(scores), abs=1e-12)


def test_the_same_seed_gives_the_same_weights(trained: Path, dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    train.train(tiny(), dataset, tmp_path / "again")
    first, second = load_file(trained / "weights.safetensors"), load_file(tmp_path / "again" / "weights.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_every_step_is_reported(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    seen: list[Step] = []
    train.train(tiny(), dataset, tmp_path / "run", watch=seen.append)
    assert [step.step for step in seen] == [1, 2, 3]
    assert all(step.loss > 0 for step in seen)


def test_training_lowers_the_loss(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    settings = tiny("train.steps=40", "train.validate_every=40", "train.learning_rate=5e-3", "train.loss={bce: 1}")
    train.train(settings, dataset, tmp_path / "run")
    loss = pandas.read_csv(tmp_path / "run" / "metrics.csv")["loss"]
    assert loss.iloc[-1] < 0.9 * loss.iloc[0]


@pytest.mark.parametrize("name", ["weights.safetensors", "config.yaml"])
def test_a_flipped_bit_is_noticed(trained: Path, tmp_path: Path, name: str) -> None:
    for item in trained.iterdir():
        (tmp_path / item.name).write_bytes(item.read_bytes())
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: differs from what was saved"):
        run.read(tmp_path)


def test_an_unfinished_or_mistyped_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothere: no finished run"):
        run.read(tmp_path / "nothere")
    (tmp_path / "manifest.json").write_text(json.dumps({"classes": []}))
    with pytest.raises(DataError, match=r"manifest\.json: not a manifest"):
        run.read(tmp_path)


def test_a_run_is_never_overwritten_by_accident(trained: Path, dataset: Path, tiny: Tiny) -> None:
    with pytest.raises(DataError, match=r"already holds .*--overwrite"):
        train.train(tiny(), dataset, trained)
    assert run.read(trained)


def test_two_processes_do_not_share_a_folder(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process"):
            train.train(tiny(), dataset, tmp_path)


def test_a_loss_that_is_no_number_stops_and_names_step_and_images(
    dataset: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    normalise = data.normalise
    calls = iter(range(100))
    monkeypatch.setattr(data, "normalise", lambda images: normalise(images) * (1 if next(calls) < 1 else float("nan")))
    with pytest.raises(train.DivergedError, match=r"the loss of step 2 is nan, at the images ID\d+/image"):
        train.train(tiny(), dataset, tmp_path / "run")
    with pytest.raises(DataError, match="no finished run"):
        run.read(tmp_path / "run")


def test_a_fold_that_does_not_exist_is_a_config_error(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.fold: 2 is not one of the 2 folds"):
        train.train(tiny("data.fold=2"), dataset, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_rate_rises_and_falls() -> None:
    options = config.Train(steps=100, learning_rate=1.0, warmup=0.1)
    rates = [train.learning_rate(step, options) for step in range(100)]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == rates[10] == 1.0
    assert 0 < rates[99] < 0.001


def test_another_class_list_trains(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "two.json").write_text('["Radius", "Ulna"]')
    settings = tiny(f"classes={tmp_path / 'two.json'}")
    with pytest.raises(DataError, match="unknown class"):  # 27 bones of the annotations are not in the list
        train.train(settings, dataset, tmp_path / "run")
