import json

import numpy as np
import pytest
from typer.testing import CliRunner

from carpus import data, kernels, phantom, run
from carpus.cli import app
from carpus.errors import ConfigError, DataError
from carpus.formats import annotations, files, images, submission
from carpus.labels import BONES
from carpus.pseudo import make, provenance, trust
from carpus.pseudo.measures import MEASURES

SIZE = (96, 96)


def noisy(seed):
    """Masks with holes, several pieces, single pixels and overlaps."""
    rng = np.random.default_rng(seed)
    return kernels.encode(
        (rng.integers(0, 1 << 29, SIZE) & rng.integers(0, 1 << 29, SIZE)).astype(np.int32), len(BONES)
    )


@pytest.fixture
def sheet(dataset, tmp_path):
    """A submission of noise for the test images, and what is in it."""
    names = [submission.image_name(case.name + ".png") for case in data.read(dataset).test]
    content = {name: noisy(n) for n, name in enumerate(names)}
    submission.write(tmp_path / "sub.csv", content.items(), BONES)
    return tmp_path / "sub.csv", content


def test_the_folder_has_every_pixel_of_the_submission(dataset, sheet, tmp_path):
    path, content = sheet
    out = tmp_path / "pseudo"
    found = make.make([path], dataset / "test" / "DCM", out)
    made, test = data.read(out), data.read(dataset).test
    assert [case.name for case in made.train] == [case.name for case in test]
    for case, original in zip(made.train, test, strict=True):
        runs = content[submission.image_name(case.name + ".png")]
        assert np.array_equal(data.read_labels(case), kernels.decode(runs, SIZE))
        assert case.image.read_bytes() == original.image.read_bytes()
        assert case.image.stat().st_ino == original.image.stat().st_ino
    assert (found.images, found.bones) == (len(test), len(test) * len(BONES))


def test_provenance_says_what_was_kept_and_why_not(dataset, sheet, tmp_path):
    path, _ = sheet
    make.make([path], dataset / "test" / "DCM", tmp_path / "pseudo")
    known = provenance.read(tmp_path / "pseudo")
    assert known.seen is None
    assert known.content["sources"] == [
        {"kind": "submission", "path": str(path.resolve()), "sha256": files.sha256(path), "seen": None}
    ]
    assert "never measured" in known.advice
    for case in data.read(tmp_path / "pseudo").train:
        assert known.images[case.name] == files.sha256(case.image)
        found = trust.read(tmp_path / "pseudo", case.name, SIZE, BONES)
        assert found is not None
        assert set(found.bones) == set(BONES)
        assert all(not bone.kept and "pieces" in bone.reasons for bone in found.bones.values())
        assert found.bones["Lunate"].measures["agreement"] is None


def test_submissions_are_held_against_the_image(tmp_path):
    phantom.write(tmp_path / "data", patients=1, test_patients=1, size=256)
    truth = tmp_path / "data" / "test_labels" / "submission.csv"
    make.make([truth], tmp_path / "data" / "test" / "DCM", tmp_path / "pseudo")
    for case in data.read(tmp_path / "pseudo").train:
        found = trust.read(tmp_path / "pseudo", case.name, (256, 256), BONES)
        assert found is not None
        distances = [bone.measures["edge"] for bone in found.bones.values()]
        assert all(distance is None or distance < MEASURES["edge"].limit for distance in distances)
        assert sum(distance is not None for distance in distances) > len(BONES) / 2


def test_what_does_not_fit_leaves_no_folder(dataset, sheet, tmp_path):
    path, content = sheet
    submission.write(tmp_path / "less.csv", list(content.items())[1:], BONES)
    submission.write(tmp_path / "more.csv", [*content.items(), ("image0.png", noisy(9))], BONES)
    folder = dataset / "test" / "DCM"
    for sources, message in (
        ([path, tmp_path / "more.csv"], "there is no such image"),
        ([tmp_path / "more.csv"], "image0.png: there is no such image"),
    ):
        with pytest.raises(DataError, match=message):
            make.make(sources, folder, tmp_path / "pseudo")
        assert not (tmp_path / "pseudo").exists()
    with pytest.raises(ConfigError, match="at least one"):
        make.make([], folder, tmp_path / "pseudo")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(DataError, match="is there already"):
        make.make([path], folder, tmp_path / "used")


def test_runs_are_measured_on_the_patients_they_held_out(dataset, trained, tmp_path):
    result = CliRunner().invoke(
        app, ["pseudo", str(trained), "--images", f"{dataset}/test/DCM", "--out", str(tmp_path / "pseudo")]
    )
    assert result.exit_code == 0, result.output
    assert "advised against" in result.output
    known = provenance.read(tmp_path / "pseudo")
    opened = run.read(trained)
    assert known.seen == frozenset(opened.manifest["train_patients"])
    quality = known.content["quality"]
    assert quality["images"] == 4
    assert quality["patients"] == len(opened.manifest["val_patients"]) == 2
    assert quality["gain"] == 0


def test_annotations_are_the_competitions(dataset, sheet, tmp_path):
    path, _ = sheet
    make.make([path], dataset / "test" / "DCM", tmp_path / "pseudo")
    case = data.read(tmp_path / "pseudo").train[0]
    assert case.annotation is not None
    content = json.loads(case.annotation.read_text())
    assert content["filename"] == case.image.name
    assert content["parent_path"] == f"/{case.patient}"
    assert np.array_equal(annotations.read(case.annotation, images.size(case.image), BONES), data.read_labels(case))
