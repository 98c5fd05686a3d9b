"""Training leaves a complete, checked run folder; the same seed gives the same weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from carpus import config, evaluate, job, models, run, train
from carpus.cli import app
from carpus.errors import ConfigError, DataError
from carpus.progress import Step

Tiny = Callable[..., config.Config]


def test_a_run_folder_is_complete(trained: Path, dataset: Path, tiny: Tiny) -> None:
    found = run.read(trained)
    assert config.load([trained / "config.yaml"]) == found.settings == tiny()
    assert found.manifest["data"]["all"] != found.manifest["data"]["val"]
    assert {len(digest) for digest in found.manifest["data"]["val"].values()} == {64}
    assert not set(found.manifest["train_patients"]) & set(found.manifest["val_patients"])
    assert found.manifest["versions"]["torch"] == torch.__version__.split("+")[0]
    assert {"carpus", "timm", "safetensors", "transformers", "torchvision"} <= set(found.manifest["versions"])
    assert tuple(found.classes.groups["forearm"]) == ("Radius", "Ulna")
    metrics = pandas.read_csv(trained / "metrics.csv")
    assert metrics["step"].tolist() == [2, 3]
    assert metrics["val_dice"].notna().all()
    assert metrics["val_dice"].iloc[-1] == pytest.approx(found.manifest["val_dice"], abs=1e-12)
    scores = pandas.read_csv(trained / "scores.csv")
    assert tuple(scores.columns) == (*evaluate.COLUMNS, evaluate.PIXELS)
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
    with pytest.raises(DataError, match=r"already holds a finished run; .*--overwrite .*--continue .*run --steps N"):
        train.train(tiny("train.seed=9"), dataset, trained)
    assert run.read(trained)


def test_the_same_on_its_finished_run_trains_nothing(trained: Path, dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    out, recipe = Path(shutil.copytree(trained, tmp_path / "run")), tmp_path / "recipe.yaml"
    (out / run.BEGUN).write_text("{}")  # killed between the manifest and clearing up,
    shutil.copytree(trained, out / run.EARLIER)  # as a run that replaced another
    recipe.write_text(config.dump(tiny("data.workers=1")))
    shown = CliRunner().invoke(app, ["train", str(recipe), "--data", str(dataset), "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    assert shown.stderr.splitlines() == [f"{out}: is finished, and is what this command asks for; nothing was trained"]
    assert f"{run.read(trained).manifest['val_dice']:.4f}" in shown.stdout
    files = [{path.relative_to(of): path.read_bytes() for path in of.rglob("*.*")} for of in (trained, out)]
    assert files[0] == files[1]


def test_other_first_weights_in_the_same_file_are_noticed(
    trained: Path, dataset: Path, tiny: Tiny, tmp_path: Path
) -> None:
    def stop(now: Step) -> None:
        raise KeyboardInterrupt

    first, other = load_file(trained / run.WEIGHTS), models.build(tiny().model, 29).state_dict()
    start, done, begun = tmp_path / "start.safetensors", tmp_path / "done", tmp_path / "begun"
    settings = tiny("train.save_every=1", f"model.weights={start}")
    save_file(first, start)
    train.train(settings, dataset, done)
    with pytest.raises(KeyboardInterrupt):
        train.train(settings, dataset, begun, watch=lambda now: stop(now) if now.step == 2 else None)
    save_file(other, start)
    with pytest.raises(DataError, match="already holds a finished run"):
        train.train(settings, dataset, done)
    with pytest.raises(DataError, match=r"holds an unfinished run with another model\.weights \(\w{64}, now \w{64}\)"):
        train.train(settings, dataset, begun)
    with pytest.raises(DataError, match=r"start\.safetensors: is not what .*done began from \(start_sha256 in"):
        train.lengthen(done, 4, dataset)
    save_file(first, start)
    train.train(settings, dataset, done)
    train.train(settings, dataset, begun)
    whole, resumed = load_file(done / run.WEIGHTS), load_file(begun / run.WEIGHTS)
    assert all(whole[name].equal(resumed[name]) for name in whole)
    moved = str(shutil.copy(start, tmp_path / "moved.safetensors"))
    told: list[str] = []
    train.train(tiny("train.save_every=1", f"model.weights={moved}"), dataset, done, tell=told.append)
    assert "nothing was trained" in told[0]


def test_first_weights_in_a_folder_are_known_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"whole")
    whole = job.start_sha256(str(tmp_path))
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    assert whole == job.start_sha256(str(tmp_path))
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"more")
    parts = job.start_sha256(str(tmp_path))
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"other")
    assert len({whole, parts, job.start_sha256(str(tmp_path))}) == 3


def test_a_damaged_finished_run_is_not_taken_for_done(trained: Path, dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "run"))
    (out / run.WEIGHTS).write_bytes(b"")
    with pytest.raises(DataError, match=r"weights\.safetensors: differs from what was saved"):
        train.train(tiny(), dataset, out)


def test_a_fold_that_does_not_exist_is_a_config_error(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.fold: 2 is not one of the 2 folds"):
        train.train(tiny("data.fold=2"), dataset, tmp_path / "run")
    assert not (tmp_path / "run").exists()


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


def test_a_damaged_image_costs_no_earlier_run(trained: Path, dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    root, out = Path(shutil.copytree(dataset, tmp_path / "data")), Path(shutil.copytree(trained, tmp_path / "run"))
    for path in (root / "train" / "DCM").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="truncated or damaged"):
        train.train(tiny(), root, out, overwrite=True)
    assert run.read(out).manifest == run.read(trained).manifest
    assert sorted(path.name for path in out.iterdir()) == sorted([*run.FILES, run.STATE])


@pytest.mark.parametrize("more", [["data.crop=32"], ["data.image_size=32"], ["data.crop=32", "train.batch_size=1"]])
def test_too_little_for_batchnorm_is_a_config_error_with_a_way_out(
    more: list[str], dataset: Path, tiny: Tiny, tmp_path: Path
) -> None:
    name = more[0].partition("=")[0]
    with pytest.raises(ConfigError, match=rf"{name}: 32 pixels become .* 64 pixels, 3 images .*model\.norm=group"):
        train.train(tiny("data.label_size=64", *more), dataset, tmp_path / "run")
    train.train(tiny("data.label_size=64", "model.norm=group", *more), dataset, tmp_path / "run")


def test_a_window_suits_the_down_layer(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.crop: 32 is not a multiple of 64, which a network with a down layer"):
        train.train(tiny("data.crop=32", "data.label_size=64", "model.down={}"), dataset, tmp_path / "run")


def test_resuming_what_is_not_there_is_told_before_the_data_is_read(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mistyped: holds no saved state to go on with"):
        train.train(tiny(), tmp_path / "no data", tmp_path / "mistyped", resume=True)
    assert not (tmp_path / "mistyped").exists()


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


def test_an_auxiliary_head_changes_no_dropout_in_any_part_of_a_batch(
    dataset: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[torch.Tensor] = []
    forward = models.Network.forward

    def record(network: models.Network, images: torch.Tensor) -> models.Output:
        if network.training:
            begun.append(torch.get_rng_state())
        return forward(network, images)

    monkeypatch.setattr(models.Network, "forward", record)
    parts = []
    for aux in ("[]", "[{stage: 4}]"):
        settings = tiny(f"model.aux={aux}", "train.steps=1", "train.accumulate=2")
        train.train(settings, dataset, tmp_path / f"run{len(parts)}")
        parts.append(begun[-2:])
    assert all(torch.equal(plain, with_aux) for plain, with_aux in zip(*parts, strict=True))
    assert not torch.equal(*parts[0])
