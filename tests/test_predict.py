"""Images to label maps, whatever their size, and evaluation of them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from torch import nn

from carpus import data, evaluate, predict, run, segment
from carpus import labels as label_map
from carpus.errors import ConfigError, DataError, DataWarning
from carpus.formats import annotations, images, submission
from carpus.labels import BONES
from carpus.models import Output
from carpus.predict import Predictor

METRICS_PX = ("dice", "iou", "nsd_1px", "nsd_2px", "nsd_4px", "hd95_px")


class Bright(nn.Module):
    """Says that every class is wherever the image is bright, at half the resolution."""

    def forward(self, pictures: torch.Tensor) -> Output:
        return Output(nn.functional.avg_pool2d(pictures, 2).expand(-1, 29, -1, -1) - 2)


@pytest.fixture
def bright() -> Predictor:
    return Predictor(Bright(), image_size=64, classes=29, launcher=predict.fabric("cpu", "32"))


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    """The trained run, to be written into."""
    return Path(shutil.copytree(trained, tmp_path / "own"))


def evaluated(path: Path, root: Path, split: str, **more) -> pandas.DataFrame:
    return evaluate.evaluate([run.read(path)], data.read(root), split, **more)


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (200, 100), (47, 129)])
def test_the_label_map_has_the_size_of_the_image(bright: Predictor, size: tuple[int, int]) -> None:
    labels = bright(np.zeros(size, np.uint8))
    assert (labels.shape, labels.dtype) == (size, np.int32)
    assert not labels.any()


def test_what_is_bright_is_found_where_it_is(bright: Predictor) -> None:
    image = np.zeros((120, 200), np.uint8)
    image[40:80, 100:160] = 255
    found = label_map.has(bright(image), 28)
    truth = image > 0
    assert (found & truth).sum() / (found | truth).sum() > 0.85


def test_many_gives_keys_in_order(bright: Predictor) -> None:
    sizes = [(10, 20), (30, 5), (64, 64)]
    made = list(predict.in_turn(bright, ((size, lambda size=size: np.zeros(size, np.uint8)) for size in sizes)))
    assert [(key, labels.shape) for key, labels in made] == [(size, size) for size in sizes]


def test_a_folder_becomes_a_submission(trained: Path, dataset: Path, tmp_path: Path) -> None:
    count = segment.segment([run.read(trained)], dataset / "test" / "DCM", tmp_path / "sub.csv")
    found = submission.read(tmp_path / "sub.csv", BONES, (96, 96))
    assert (count.images, count.faults) == (4, [])
    assert list(found) == [f"{case.image.stem}.png" for case in data.read(dataset).test]


def test_predicted_annotations_are_those_of_the_submission(trained: Path, dataset: Path, tmp_path: Path) -> None:
    found = run.read(trained)
    segment.segment([found], dataset / "test" / "DCM", tmp_path / "labels")
    case = data.read(dataset).test[0]
    written = next((tmp_path / "labels").rglob(f"{case.image.stem}.json"))
    expected = Predictor.of(found)(images.read(case.image))
    assert np.array_equal(annotations.read(written, (96, 96), BONES), expected)


def test_strictly_a_damaged_image_leaves_no_submission(trained: Path, dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    first, second, *_ = data.read(dataset).test
    (folder / "a.png").write_bytes(first.image.read_bytes())
    (folder / "b.png").write_bytes(second.image.read_bytes()[:200])
    with pytest.raises(DataError, match=r"b\.png"):
        segment.segment([run.read(trained)], folder, tmp_path / "sub.csv", strict=True)
    assert sorted(tmp_path.iterdir()) == [folder, tmp_path / "sub.csv.partial"]


def test_names_that_cannot_be_written_are_refused_before_the_work(trained: Path, dataset: Path, tmp_path: Path) -> None:
    folder, done = tmp_path / "images", []
    for name in ("ID001/a.png", "ID002/a.png"):
        images.write(folder / name, np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"'ID002/a\.png' and 'ID001/a\.png' would be one file"):
        segment.segment([run.read(trained)], folder, tmp_path / "sub.csv", progress=lambda *now: done.append(now))
    assert not done
    assert segment.segment([run.read(trained)], folder, tmp_path / "labels").images == 2
    images.write(folder / "ID001/a.jpg", np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"'ID001/a\.jpg' would be one file; rename one of them"):
        segment.segment([run.read(trained)], folder, tmp_path / "more")


def test_predictions_go_by_the_name_of_their_image(trained: Path, tmp_path: Path) -> None:
    for name in ("1.2.840.7", "1.2.840.8", "b.bmp"):
        images.write(tmp_path / "images" / name, np.zeros((8, 8), np.uint8))
    segment.segment([run.read(trained)], tmp_path / "images", tmp_path / "coco.json")
    named = [image["file_name"] for image in json.loads((tmp_path / "coco.json").read_text())["images"]]
    assert named == ["1.2.840.7", "1.2.840.8", "b.bmp"]
    segment.segment([run.read(trained)], tmp_path / "images", tmp_path / "sub.csv")
    assert list(submission.read(tmp_path / "sub.csv", BONES, (8, 8))) == ["1.2.840.7.png", "1.2.840.8.png", "b.png"]


def test_an_image_whose_square_would_fill_the_memory_is_refused(trained: Path, tmp_path: Path) -> None:
    images.write(tmp_path / "long.png", np.zeros((1, 20000), np.uint8))
    with pytest.raises(DataError, match=r"long\.png: is 1 x 20000, too oblong"):
        segment.segment([run.read(trained)], tmp_path, tmp_path / "sub.csv")


def test_no_image_at_all_is_an_error(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image"):
        segment.segment([run.read(trained)], tmp_path, tmp_path / "sub.csv")


def test_cuda_without_a_device_is_a_config_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ConfigError, match="sees no CUDA device"):
        predict.fabric("cuda")
    with pytest.raises(ConfigError, match="expected auto, cpu or cuda, got gpu"):
        predict.fabric("gpu")


def test_evaluation_measures_what_prediction_writes(own: Path, dataset: Path) -> None:
    kept = []
    table = evaluated(own, dataset, "test", keep=lambda *maps: kept.append(maps))
    assert table.groupby("metric").size().to_dict() == dict.fromkeys(METRICS_PX, 4 * 29)
    case, truth, found = kept[0]
    k = BONES.index("Radius")
    a, b = label_map.has(truth, k), label_map.has(found, k)
    expected = (2 * (a & b).sum() + 1e-4) / (a.sum() + b.sum() + 1e-4)
    row = table[(table["case"] == case.name) & (table["class"] == "Radius") & (table["metric"] == "dice")]
    assert row["value"].item() == pytest.approx(expected, abs=1e-12)
    summary = evaluate.summary(table, BONES)
    assert summary["images"] == 4
    assert summary["dice"] == pytest.approx(np.mean(list(summary["classes"].values())))


def test_scores_of_a_split_replace_its_earlier_ones(own: Path, dataset: Path) -> None:
    for _ in range(2):
        evaluated(own, dataset, "test")
    rows = pandas.read_csv(own / "scores.csv")
    assert rows.groupby("split").size().to_dict() == {"test": 6 * 4 * 29, "val": 4 * 29}


def test_other_images_under_the_same_names_are_not_the_validation_set(
    trained: Path, dataset: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "data"))
    held_out = run.read(trained).manifest["val_patients"][0]
    annotation = next((root / "train/outputs_json" / held_out).glob("*.json"))
    annotation.write_text(annotation.read_text() + " ")
    with pytest.warns(DataWarning, match="annotations of the validation patients have changed"):
        evaluated(Path(shutil.copytree(trained, tmp_path / "run")), root, "val")
    image = next((root / "train/DCM" / held_out).glob("*.png"))
    images.write(image, images.read(image) + np.uint8(1))
    with pytest.raises(DataError, match=r"are not those that .* held out"):
        evaluated(trained, root, "val")


@pytest.mark.parametrize("text", ["", "case,value\na,1\n", "case,patient,split,class,metric,value\na,b,val,c,dice,x\n"])
def test_a_damaged_table_of_scores_is_named(trained: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(DataError, match=r"scores\.csv: "):
        evaluate.load(tmp_path)


def test_a_name_that_a_spreadsheet_would_compute_is_text_in_the_scores(tmp_path: Path) -> None:
    table = pandas.DataFrame([("-1", "-1", "val", "=a", "dice", 0.5)], columns=list(evaluate.COLUMNS))
    evaluate.save(tmp_path, table)
    assert (tmp_path / "scores.csv").read_text().splitlines()[1] == "'-1,'-1,val,'=a,dice,0.5"
    assert evaluate.load(tmp_path).equals(table)


def test_scores_tell_which_image_they_are_of(own: Path, dataset: Path) -> None:
    table = evaluated(own, dataset, "test")
    known = {case.name: images.digest(case.image)[:12] for case in data.read(dataset).test}
    assert dict(zip(table["case"], table["pixels"], strict=True)) == known
    # Scores of before they told are kept beside them, and so is a digest that looks like a number.
    before = table[list(evaluate.COLUMNS)].assign(split="val")
    before.to_csv(own / "scores.csv", index=False)
    assert evaluate.load(own).equals(before.reset_index(drop=True))
    evaluate.save(own, table.assign(pixels="012345678901"))
    assert evaluate.load(own).groupby("split")["pixels"].unique().to_dict() == {"test": ["012345678901"], "val": [""]}


def test_evaluation_on_other_data_is_refused(trained: Path, tmp_path: Path, dataset: Path) -> None:
    with pytest.raises(ConfigError, match="expected val or test"):
        evaluated(trained, dataset, "train")
    (tmp_path / "train" / "DCM" / "ID900").mkdir(parents=True)
    images.write(tmp_path / "train" / "DCM" / "ID900" / "a.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match="of the run's validation fold is not there"):
        evaluated(trained, tmp_path, "val")
    with pytest.raises(DataError, match="no annotated test images"):
        evaluated(trained, tmp_path, "test")


def test_12_a_training_image_among_the_test_images_is_a_leak(trained: Path, dataset: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "data"))
    shutil.copy(next((root / "train/DCM").rglob("*.png")), next((root / "test/DCM").rglob("*.png")))
    with pytest.raises(DataError, match=r"the same image as .*: a leak between splits"):
        evaluated(trained, root, "test")
