import io
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from carpus import kernels, labels, metrics, phantom
from carpus.competition import score
from carpus.errors import DataError
from carpus.formats import images, submission
from carpus.labels import BONES, Classes

TWO = Classes(("Radius", "Ulna"), {"forearm": ("Radius", "Ulna"), "thin": ("Ulna",)})


def runs(*drawings):
    """The runs of masks drawn with # and . as "##. ...", rows apart."""
    planes = np.array([[[pixel == "#" for pixel in row] for row in drawing.split()] for drawing in drawings])
    return kernels.encode(labels.pack(planes), len(drawings))


HALF, FULL, NONE, LEFT = "##. ...", "### ###", "... ...", "#.. #.."


@pytest.fixture
def pair(tmp_path):
    """Two submissions of three 2 x 3 images whose Dice is counted by hand."""
    prediction, truth = tmp_path / "prediction.csv", tmp_path / "truth.csv"
    submission.write(
        prediction, [("a.png", runs(HALF, NONE)), ("b.png", runs(LEFT, FULL)), ("c.png", runs(NONE, HALF))], TWO
    )
    submission.write(
        truth, [("b.png", runs(LEFT, LEFT)), ("a.png", runs(LEFT, NONE)), ("c.png", runs(HALF, HALF))], TWO
    )
    return prediction, truth


def test_two_submissions_give_the_means_counted_by_hand(pair):
    found = score(*pair, classes=TWO, size=(2, 3))
    # Image and class, in the truth's order: b Radius equal, b Ulna 2 of 2 + 6, a Radius 1 of 2 + 2, a Ulna both empty.
    assert found.dice == pytest.approx(np.array([[1, 4 / 8], [2 / 4, 1], [0, 1]]), abs=1e-4)
    assert found.names == ("b.png", "a.png", "c.png")
    assert found.mean() == pytest.approx((1.5 / 3 + 2.5 / 3) / 2, abs=1e-4)
    assert found.mean("val") is None
    assert found.worst() == ("Radius", pytest.approx(0.5, abs=1e-4))


def test_it_agrees_with_label_maps_drawn_and_counted(tmp_path):
    rng = np.random.default_rng(0)
    size, files, maps = (31, 37), [], []
    for name in ("one", "two"):
        maps.append(
            [rng.integers(0, 1 << 29, size, np.int32) & rng.integers(0, 1 << 29, size, np.int32) for _ in range(2)]
        )
        files.append(tmp_path / f"{name}.csv")
        submission.write(files[-1], ((f"{n}.png", kernels.encode(one, 29)) for n, one in enumerate(maps[-1])), BONES)
    found = score(*files, size=size)
    drawn = [metrics.dice(kernels.overlap(a, b, 29)) for a, b in zip(*maps, strict=True)]
    assert found.dice.tolist() == np.array(drawn).tolist()


def test_public_ids_part_the_images(pair, tmp_path):
    ids = tmp_path / "public.txt"
    ids.write_text("\ufeffa.png\r\n\r\nc\r\n", encoding="utf-8")
    found = score(*pair, classes=TWO, size=(2, 3), public_ids=ids)
    assert found.images == {"val": 0, "public": 2, "private": 1, "all": 3}
    assert found.mean("public") == pytest.approx((0.25 + 1) / 2, abs=1e-4)
    assert found.mean("private") == pytest.approx((1 + 0.5) / 2, abs=1e-4)
    ids.write_text("a.png\nd.png\n")
    with pytest.raises(DataError, match=r"public.txt: line 2: 'd.png' is no image"):
        score(*pair, classes=TWO, size=(2, 3), public_ids=ids)


def test_a_submission_must_cover_the_truth_exactly(pair):
    prediction, truth = pair
    content = submission.read(prediction, TWO, (2, 3))
    submission.write(prediction, list(content.items())[:1], TWO)
    with pytest.raises(DataError, match=r"prediction.csv.*2 images are missing .*first is b.png"):
        score(prediction, truth, classes=TWO, size=(2, 3))
    submission.write(prediction, [*content.items(), ("d.png", runs(NONE, NONE))], TWO)
    with pytest.raises(DataError, match=r"prediction.csv.*1 image is not in the truth.*first is d.png"):
        score(prediction, truth, classes=TWO, size=(2, 3))
    lines = truth.read_text().splitlines()
    truth.write_text("\n".join(lines[:-1]))
    with pytest.raises(DataError, match="Ulna"):
        score(pair[0], truth, classes=TWO, size=(2, 3))


def test_an_empty_submission_has_no_score(pair):
    for path in pair:
        path.write_text("image_name,class,rle\n")
    with pytest.raises(DataError, match="no image"):
        score(*pair, classes=TWO, size=(2, 3))


def test_table_json_and_text_say_the_same(pair, tmp_path):
    (tmp_path / "ids").write_text("a.png")
    found = score(*pair, classes=TWO, size=(2, 3), public_ids=tmp_path / "ids")
    table = found.table()
    assert table.columns.tolist() == ["image", "class", "split", "both", "prediction", "truth", "dice"]
    assert table.groupby("class")["dice"].mean().mean() == pytest.approx(found.mean(), abs=1e-12)
    assert table[table["split"] == "public"]["dice"].mean() == pytest.approx(found.mean("public"), abs=1e-12)

    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert list(plain) == ["images", "dice", "groups", "classes", "worst"]
    assert plain["dice"] == {
        "val": None,
        "public": found.mean("public"),
        "private": found.mean("private"),
        "all": found.mean(),
    }
    assert plain["groups"]["thin"] == plain["classes"]["Ulna"]
    assert plain["worst"] == {"class": "Radius", "dice": pytest.approx(0.5, abs=1e-4)}

    text = io.StringIO()
    Console(file=text, width=100).print(found)
    assert f"{found.mean():.4f}" in text.getvalue()
    assert "Radius (worst)" in text.getvalue()
    assert "Val" not in text.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("score") / "data"
    phantom.write(out, patients=2, test_patients=3, size=128, seed=1)
    return out


def labelled(folder, split):
    """Base name and runs of every annotated image of a split, as a perfect predictor would give them."""
    from carpus import data

    for case in getattr(data.read(folder), split):
        yield f"{case.name.rsplit('/', 1)[1]}.png", kernels.encode(data.read_labels(case), 29)


def test_training_images_are_validation_and_a_fold_is_enough(folder, tmp_path):
    fold = list(labelled(folder, "train"))[1:3]
    fold[0][1][0] = fold[0][1][0][:0]
    submission.write(tmp_path / "fold.csv", fold, BONES)
    calls = []
    found = score(tmp_path / "fold.csv", folder, progress=lambda done, total: calls.append((done, total)))
    assert found.images == {"val": 2, "public": 0, "private": 0, "all": 2}
    assert found.available["val"] == 4
    assert calls == [(1, 2), (2, 2)]
    assert found.mean() == pytest.approx(1 - 1 / 58, abs=1e-6)
    assert found.worst() == ("finger-1", pytest.approx(0.5, abs=1e-5))


def test_test_images_find_their_truth_and_public_part_in_the_folder(folder, tmp_path):
    exact = list(labelled(folder, "test"))
    submission.write(tmp_path / "all.csv", exact, BONES)
    found = score(tmp_path / "all.csv", folder)
    public = (folder / "test_labels" / "public.txt").read_text().split()
    assert found.images == {"val": 0, "public": len(public), "private": 6 - len(public), "all": 6}
    assert 0 < len(public) < 6
    assert found.dice.tolist() == np.ones((6, 29)).tolist()
    submission.write(tmp_path / "part.csv", exact[:-1], BONES)
    with pytest.raises(DataError, match=f"1 image is missing .*first is {exact[-1][0]}"):
        score(tmp_path / "part.csv", folder)


def test_annotations_of_test_images_do_where_the_submission_is_not_there(folder, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(folder, copy)
    (copy / "test_labels" / "submission.csv").unlink()
    (copy / "test_labels" / "public.txt").unlink()
    submission.write(tmp_path / "all.csv", labelled(folder, "test"), BONES)
    found = score(tmp_path / "all.csv", copy, public_ids=None)
    assert found.mean() == 1
    assert found.mean("public") is None
    patient = sorted(path.name for path in (copy / "test" / "DCM").iterdir())[0]
    (tmp_path / "ids").write_text(patient)
    assert score(tmp_path / "all.csv", copy, public_ids=tmp_path / "ids").images["public"] == 2


def test_sizes_come_from_the_images(folder, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(folder, copy)
    name, of_class = next(iter(labelled(folder, "train")))
    path = next((copy / "train" / "DCM").rglob(name))
    images.write(path, np.zeros((32, 32), np.uint8))
    submission.write(tmp_path / "big.csv", [(name, of_class)], BONES)
    with pytest.raises(DataError, match="32 x 32"):
        score(tmp_path / "big.csv", copy)


def test_one_base_name_in_two_patients_is_an_error(folder, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(folder, copy)
    path = next((copy / "train" / "DCM" / "ID002").iterdir())
    shutil.copy(path, copy / "train" / "DCM" / "ID001" / path.name)
    with pytest.raises(DataError, match="the same base name"):
        score(folder / "test_labels" / "submission.csv", copy)


def test_a_folder_without_test_labels_cannot_score_test_images(folder, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "test_labels")
    with pytest.raises(DataError, match="6 images are not in the truth"):
        score(folder / "test_labels" / "submission.csv", copy)


def test_45_a_truth_outside_the_data_folder_is_not_read(tmp_path):
    phantom.write(tmp_path / "data", patients=1, test_patients=1, size=64)
    table = tmp_path / "data" / "test_labels" / "submission.csv"
    table.replace(tmp_path / "outside.csv")
    table.symlink_to(tmp_path / "outside.csv")
    with pytest.raises(DataError, match=r"'submission\.csv' is a link out of"):
        score(tmp_path / "outside.csv", tmp_path / "data")


def test_a_size_that_is_not_that_of_the_images_is_refused(tmp_path):
    phantom.write(tmp_path / "data", patients=1, test_patients=1, size=64)
    table = tmp_path / "data" / "test_labels" / "submission.csv"
    assert score(table, tmp_path / "data", size=(64, 64)).mean() == 1
    with pytest.raises(DataError, match="is 64 x 64, against --size 128x128"):
        score(table, tmp_path / "data", size=(128, 128))
