import csv
import hashlib
import json

import cv2
import numpy as np
import pytest

from carpus import kernels, phantom
from carpus.errors import ConfigError, DataError
from carpus.formats import annotations, images, submission
from carpus.labels import BONES, area
from carpus.phantom import dataset

SIZE = 256


def _digest(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "data"
    seen = []
    summary = phantom.write(out, patients=3, test_patients=4, size=SIZE, seed=3, progress=lambda *now: seen.append(now))
    assert seen == [(done, 14) for done in range(1, 15)]
    return summary


def test_layout(written):
    out = written.out
    folders = sorted(path.name for path in (out / "train" / "DCM").iterdir())
    assert folders == ["ID001", "ID002", "ID003"]
    for split in ("train", "test"):
        for path in sorted((out / split / "DCM").rglob("*.png")):
            pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert pixels.shape == (SIZE, SIZE, 3)
            assert (pixels == pixels[..., :1]).all()
            stem = path.stem.removeprefix("image")
            assert stem.split("_")[0].isdigit()
            assert len(stem.split("_")[0]) == 13
            assert ("_" in stem) == (path.parent.name == "ID001")
            labels = out / ("train" if split == "train" else "test_labels") / "outputs_json"
            assert (labels / path.parent.name / f"{path.stem}.json").is_file()
    names = sorted(path.stem for path in (out / "train" / "DCM" / "ID001").iterdir())
    assert [name[-2:] for name in names] == ["_R", "_L"]
    assert not (out / "test" / "outputs_json").exists()
    assert len(written.train) == 6
    assert len(set(written.train + written.test)) == 14
    assert len(list(out.parent.iterdir())) == 1, "no temporary folder stays behind"


def test_traps_of_the_annotations(written):
    orders = set()
    for path in (written.out / "train" / "outputs_json").rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        assert set(content) == {
            "annotations",
            "attributes",
            "file_id",
            "filename",
            "parent_path",
            "last_modifier_id",
            "metadata",
            "last_workers",
        }
        assert content["filename"] == f"{path.stem}.jpg"
        assert set(content["metadata"].values()) == {3060}
        found = [annotation["label"] for annotation in content["annotations"]]
        assert sorted(found) == sorted(BONES)
        orders.add(tuple(found))
        for annotation in content["annotations"]:
            assert annotation["id"].startswith("30-")
            assert annotation["type"] == "poly_seg"
            assert all(isinstance(value, int) for point in annotation["points"] for value in point)
    assert tuple(BONES) not in orders


def test_first_file_of_a_patient_shows_the_thumb_on_the_left(written):
    for folder in (written.out / "train" / "outputs_json").iterdir():
        for number, path in enumerate(sorted(folder.iterdir())):
            labels = annotations.read(path, (SIZE, SIZE), BONES)
            centres = phantom.anatomy.centroids(labels, BONES)
            thumb, little = (centres[BONES.index(name)][0] for name in ("finger-3", "finger-19"))
            assert (thumb < little) == (number == 0)


def test_truth_as_a_submission_is_the_labels(written):
    out = written.out
    truth = submission.read(out / "test_labels" / "submission.csv", BONES, (SIZE, SIZE))
    assert tuple(truth) == written.test
    order = [path.name for path in images.find(out / "test" / "DCM")]
    assert list(truth) == order
    for path in (out / "test_labels" / "outputs_json").rglob("*.json"):
        labels = annotations.read(path, (SIZE, SIZE), BONES)
        np.testing.assert_array_equal(labels, kernels.decode(truth[f"{path.stem}.png"], (SIZE, SIZE)))
        assert (area(labels, len(BONES)) > 0).all()


def test_public_half_is_whole_patients(written):
    public = (written.out / "test_labels" / "public.txt").read_text(encoding="utf-8").split()
    assert tuple(public) == written.public
    folders = [{name in public for name in (p.name for p in d.iterdir())} for d in (written.out / "test/DCM").iterdir()]
    assert all(len(which) == 1 for which in folders)
    assert sum(which == {True} for which in folders) == 2


def test_table_of_patients_is_untidy(written):
    openpyxl = pytest.importorskip("openpyxl")
    rows = list(openpyxl.load_workbook(written.out / "meta_data.xlsx").worksheets[0].iter_rows(values_only=True))
    assert rows[0] == ("ID", "나이", "성별", "체중(몸무게)", "키(신장)", None)
    assert [row[0] for row in rows[1:]] == [1, 2, 3, 5, 8, 10, 13]
    assert all("남" in row[2] or "여" in row[2] for row in rows[1:])
    assert all(19 <= row[1] <= 70 and 130 < row[4] < 210 for row in rows[1:])


def test_sexes_are_spelt_in_many_ways(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    many = [(number, phantom.patient(np.random.default_rng(number))) for number in range(1, 151)]
    path = dataset.table.write(tmp_path, many, 0)
    rows = list(openpyxl.load_workbook(path).worksheets[0].iter_rows(values_only=True, min_row=2))
    assert {"남", "여", " 남", "_x0008_여"} <= {row[2] for row in rows}


def test_same_seed_same_bytes_and_more_patients_change_nothing(written, tmp_path):
    phantom.write(tmp_path / "again", patients=3, test_patients=4, size=SIZE, seed=3)
    first = _digest(written.out)
    assert _digest(tmp_path / "again") == first
    phantom.write(tmp_path / "more", patients=4, test_patients=4, size=SIZE, seed=3)
    more = _digest(tmp_path / "more")
    assert {name for name in first if more[name] != first[name]} == {"meta_data.xlsx"}
    phantom.write(tmp_path / "other", patients=1, test_patients=0, size=SIZE, seed=4)
    other = {digest for name, digest in _digest(tmp_path / "other").items() if name.startswith("train")}
    assert not other & set(first.values())


def test_annotation_noise_moves_training_outlines_only(written, tmp_path):
    phantom.write(tmp_path / "noisy", patients=3, test_patients=4, size=SIZE, seed=3, annotation_noise_px=1.0)
    first, noisy = _digest(written.out), _digest(tmp_path / "noisy")
    changed = {name for name in first if noisy[name] != first[name]}
    assert changed == {name for name in first if name.startswith("train/outputs_json")}
    radius = BONES.index("Radius")
    for name in sorted(changed)[:3]:
        true, off = (
            annotations.read(folder / name, (SIZE, SIZE), BONES) for folder in (written.out, tmp_path / "noisy")
        )
        counts = kernels.overlap(true, off, len(BONES))
        dice = 2 * counts[:, 0] / (counts[:, 1] + counts[:, 2])
        assert 0.55 < dice.mean() < 0.93
        assert dice[radius] > dice.mean()


def test_noise_has_the_sd_it_says():
    circle = np.stack([np.cos(t := np.linspace(0, 2 * np.pi, 240, endpoint=False)), np.sin(t)], axis=1) * 100
    rng = np.random.default_rng(0)
    shift = np.concatenate([np.linalg.norm(dataset.moved(circle, 1.5, rng), axis=1) - 100 for _ in range(400)])
    assert shift.std() == pytest.approx(1.5, rel=0.1)
    assert abs(shift.mean()) < 0.1


def test_domain_shift_changes_test_images_only(written, tmp_path):
    phantom.write(tmp_path / "shifted", patients=3, test_patients=4, size=SIZE, seed=3, domain_shift=1.0)
    first, shifted = _digest(written.out), _digest(tmp_path / "shifted")
    assert {name for name in first if shifted[name] != first[name]} == {n for n in first if n.startswith("test/DCM")}


def test_bent_wrists_have_their_shares():
    cases = {split: list(dataset._cases(split, 150, 0)) for split in ("train", "test")}
    for split, wanted in dataset.BENT_SHARE.items():
        assert np.mean([case.wrist == "bent" for case in cases[split]]) == pytest.approx(wanted, abs=0.04)
    pairs = zip(cases["test"][::2], cases["test"][1::2], strict=True)
    assert np.mean([one.wrist == other.wrist for one, other in pairs]) > 0.9
    names = [case.name for split in cases.values() for case in split]
    assert len(set(names)) == len(names)


def test_refuses_a_folder_with_content(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="not an empty folder"):
        phantom.write(tmp_path, patients=1, test_patients=0, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "wrong", [{"patients": 0}, {"annotation_noise_px": -1.0}, {"domain_shift": 2.0}, {"size": 8}, {"size": 9000}]
)
def test_settings_out_of_range_leave_nothing(tmp_path, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        phantom.write(tmp_path / "out", **{"patients": 1, "test_patients": 1, "size": 64, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_submission_csv_has_a_row_for_every_image_and_class(written):
    with (written.out / "test_labels" / "submission.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["image_name", "class", "rle"]
    assert len(rows) == 1 + 8 * 29
    assert [row[1] for row in rows[1:30]] == list(BONES)
