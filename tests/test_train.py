"""Training leaves a complete, checked run folder; the same seed gives the same weights."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
import torch
from safetensors.torch import load_file

from carpus import config, data, evaluate, losses, run, train
from carpus.errors import ConfigError, DataError, DivergedError
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
    assert metrics["val_dice"].notna().all()
    assert metrics["val_dice"].iloc[-1] == pytest.approx(found.manifest["val_dice"], abs=1e-12)
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


def test_a_run_is_never_overwritten_by_accident(trained: Path, dataset: Path, tiny: Tiny) -> None:
    with pytest.raises(DataError, match=r"already holds .*--overwrite"):
        train.train(tiny(), dataset, trained)
    assert run.read(trained)


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
    assert train.learning_rate(0, config.Train(steps=100, learning_rate=1.0, warmup=0)) == 1.0
    assert train.learning_rate(99, config.Train(steps=100, learning_rate=1.0, warmup=1)) < 1.0


def test_the_loss_of_a_row_is_the_mean_of_its_steps(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    rows = {}
    for every in (1, 3):
        train.train(tiny(f"train.validate_every={every}"), dataset, tmp_path / str(every))
        rows[every] = pandas.read_csv(tmp_path / str(every) / "metrics.csv")
    assert len(rows[1]) == 3
    assert len(rows[3]) == 1
    assert rows[3]["loss"].item() == pytest.approx(rows[1]["loss"].mean(), rel=1e-6)


def test_validation_does_not_change_the_weights(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    for every in (1, 3):
        train.train(tiny(f"train.validate_every={every}"), dataset, tmp_path / str(every))
    first, second = (load_file(tmp_path / str(every) / "weights.safetensors") for every in (1, 3))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_overwrite_replaces_a_run(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    train.train(tiny(), dataset, tmp_path / "run")
    train.train(tiny("train.seed=9"), dataset, tmp_path / "run", overwrite=True)
    assert run.read(tmp_path / "run").manifest["seed"] == 9


def test_a_setting_that_cannot_work_leaves_the_old_run_alone(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    train.train(tiny(), dataset, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"model\.encoder"):
        train.train(tiny("model.encoder=nothing"), dataset, tmp_path / "run", overwrite=True)
    assert run.read(tmp_path / "run")


def test_a_loss_that_is_no_number_stops_and_names_step_and_images(
    dataset: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = data.Batches.__call__

    def batch(self: data.Batches, step: int) -> data.Batch:
        made = broken(self, step)
        return replace(made, images=made.images * float("nan")) if step == 2 else made

    monkeypatch.setattr(data.Batches, "__call__", batch)
    with pytest.raises(DivergedError, match=r"step 3: the loss is nan .* at the images ID\d+/image"):
        train.train(tiny(), dataset, tmp_path / "run")
    assert load_file(tmp_path / "run" / "weights.safetensors")  # of the validation after step 2
    with pytest.raises(DataError, match="no finished run"):
        run.read(tmp_path / "run")


def test_an_infinite_gradient_stops_too(
    dataset: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, loss: torch.Tensor) -> torch.Tensor:
            return loss.clone()

        @staticmethod
        def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * float("inf")

    monkeypatch.setattr(losses.Loss, "__call__", lambda loss, logits, labels: Steep.apply(logits.mean()))
    with pytest.raises(DivergedError, match=r"step 1: the loss is .* the gradient's norm (nan|inf)"):
        train.train(tiny(), dataset, tmp_path / "run")


def test_a_side_without_annotations_is_named(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    shutil.copytree(dataset / "train" / "DCM", tmp_path / "train" / "DCM")
    with pytest.raises(DataError, match="0 annotated images to learn from and 0 to validate"):
        train.train(tiny(), tmp_path, tmp_path / "run")


def test_annotations_of_other_classes_are_refused(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "two.json").write_text('["Radius", "Ulna"]')
    with pytest.raises(DataError, match="unknown class"):
        train.train(tiny(f"classes={tmp_path / 'two.json'}"), dataset, tmp_path / "run")


def test_another_class_list_trains(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "two.json").write_text('["Radius", "Ulna"]')
    root = tmp_path / "data"
    shutil.copytree(dataset, root)
    for path in (root / "train" / "outputs_json").rglob("*.json"):
        content = json.loads(path.read_text())
        content["annotations"] = [one for one in content["annotations"] if one["label"] in ("Radius", "Ulna")]
        path.write_text(json.dumps(content))
    train.train(tiny(f"classes={tmp_path / 'two.json'}"), root, tmp_path / "run")
    assert run.read(tmp_path / "run").manifest["classes"] == ["Radius", "Ulna"]
    assert len(pandas.read_csv(tmp_path / "run" / "scores.csv")) == 4 * 2
