import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from carpus import data, kernels, phantom, run, train
from carpus.cli import app
from carpus.errors import ConfigError, DataError
from carpus.formats import annotations, files, images, submission
from carpus.labels import BONES, Classes
from carpus.pseudo import make, provenance, quality, selection, trust
from carpus.pseudo.measures import MEASURES
from carpus.pseudo.provenance import Seen
from carpus.pseudo.sources import Sources

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
    assert known.seen == Seen(unknown=True)
    assert known.content["sources"] == [
        {"kind": "submission", "path": str(path.resolve()), "sha256": files.sha256(path), "seen": [None]}
    ]
    assert "never measured" in known.advice()
    for case in data.read(tmp_path / "pseudo").train:
        assert known.images[case.name] == images.digest(case.image)
        assert known.annotations[case.name] == files.sha256(case.annotation)
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
    submission.write(tmp_path / "first.csv", list(content.items())[:1], BONES)
    for sources, message in (
        ([path, tmp_path / "less.csv"], "less.csv: no rows for image"),
        ([tmp_path / "first.csv", tmp_path / "less.csv"], "first.csv: no rows for image"),
        ([path, tmp_path / "more.csv"], "there is no such image"),
        ([tmp_path / "more.csv"], "image0.png: there is no such image"),
    ):
        with pytest.raises(DataError, match=message):
            make.make(sources, folder, tmp_path / "pseudo")
        assert not (tmp_path / "pseudo").exists()
    shutil.copy(path, tmp_path / "again.csv")
    with pytest.raises(ConfigError, match=r"again.csv: is .*sub.csv once more"):
        make.make([path, tmp_path / "again.csv"], folder, tmp_path / "pseudo")
    with pytest.raises(DataError, match="give the folder DCM itself"):
        make.make([path], folder.parent, tmp_path / "pseudo")
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
    assert known.seen == Seen(frozenset(opened.manifest["train_patients"]))
    measured = known.content["quality"]
    assert measured["images"] == 4
    assert measured["patients"] == len(opened.manifest["val_patients"]) == 2
    assert measured["kept_dice"] is measured["gain"] is None
    assert f"no label would be kept (Dice of all: {measured['dice']:.4f}), advised against" in known.advice()
    assert known.content["tuned_on"] == opened.manifest["val_patients"]
    assert measured["poor"] == list(BONES)
    assert f"hardly ever right: {', '.join(measured['poor'][:3])} and 26 more" in known.advice()


def test_of_a_vote_with_submissions_no_quality_is_told(dataset, trained, sheet, tmp_path):
    path, _ = sheet
    found = make.make([path, trained], dataset / "test" / "DCM", tmp_path / "pseudo")
    content = found.provenance.content
    assert found.quality is None
    assert content["quality"] is None
    told = f"out of fold the runs alone reach a Dice of {content['runs_alone']['dice']:.4f}; of the vote nobody knows"
    assert found.provenance.advice().endswith(told)


def test_folds_are_not_held_against_themselves(dataset, trained, tiny, tmp_path):
    train.train(tiny("data.fold=1", "train.steps=1"), dataset, tmp_path / "other")
    folds, size = [trained, tmp_path / "other"], lambda _: SIZE
    known = quality.out_of_fold(Sources(folds, BONES, size), dataset)
    assert np.isnan(known.student).all()
    beside = quality.out_of_fold(Sources(folds, BONES, size), dataset, student=run.read(trained))
    assert np.isnan(beside.student).all()
    alone = quality.out_of_fold(Sources([trained], BONES, size), dataset)
    assert np.array_equal(alone.student, alone.dice)  # of one run this is so for the images to label, too
    advice = make.make(folds, dataset / "test" / "DCM", tmp_path / "pseudo").provenance.advice()
    assert advice.endswith("every patient that was held out made some of them, so no fold of these can train with them")


def test_a_student_that_learnt_pseudo_labels_is_told(dataset, trained, tmp_path):
    student = shutil.copytree(trained, tmp_path / "student")
    manifest = json.loads((student / run.MANIFEST).read_text())
    learnt = {"pseudo": {"seen": [], "images": {"ID999/image": "0" * 64}}}
    (student / run.MANIFEST).write_text(json.dumps(manifest | learnt))
    choices = make.Choices(student=student)
    found = make.make([trained], dataset / "test" / "DCM", tmp_path / "pseudo", choices=choices).quality
    assert found is not None
    assert found.student == "the run student (which learnt from pseudo-labels itself)"


def test_what_no_patient_shows_is_told_as_unknown():
    measures, dice = np.full((8, 29, len(MEASURES)), np.nan), np.full((8, 29), 0.95)
    known = quality.OutOfFold([f"ID{n}" for n in range(8)], measures, dice, np.full((8, 29), np.nan))
    found = quality.judge(known, "the first run", BONES).as_json()
    assert found["kept_dice"] == pytest.approx(0.95)
    assert found["gain"] is None
    told = provenance.advice(found)
    unknown = "Dice is 0.9500, unknown how much above the first run: no patient held out shows it"
    assert told == f"out of fold 100.0% are kept, whose {unknown}"
    assert "advised against" in provenance.advice(quality.judge(replace(known, student=dice), "it", BONES).as_json())
    none = quality.judge(replace(known, measures=np.full_like(measures, 1e9)), "the first run", BONES).as_json()
    assert provenance.advice(none) == "out of fold no label would be kept (Dice of all: 0.9500), advised against"


def test_how_far_runs_agree_says_nothing_of_submissions():
    measures = np.random.default_rng(0).uniform(0.97, 0.99, (30, 2, len(MEASURES)))
    known = quality.OutOfFold([f"ID{n}" for n in range(30)], measures, np.full((30, 2), 0.95), np.full((30, 2), 0.9))
    agreement = list(MEASURES).index("agreement")
    alone, mixed = quality.rules(known), quality.rules(replace(known, mixed=True))
    assert alone.tuned[:, agreement].all()
    assert (mixed.limits[:, agreement] == MEASURES["agreement"].limit).all()
    assert np.array_equal(np.delete(mixed.limits, agreement, 1), np.delete(alone.limits, agreement, 1))
    assert not mixed.tuned[:, agreement].any()


def test_choices_for_runs_are_refused_where_there_is_none(dataset, sheet, tmp_path):
    path, _ = sheet
    for choice in ("--student=none", "--data=none", "--calibration=none", "--flip", "--device=cpu"):
        result = CliRunner().invoke(
            app, ["pseudo", str(path), "--images", f"{dataset}/test/DCM", "--out", f"{tmp_path}/out", choice]
        )
        assert result.exit_code == 2, result.output
        assert choice.partition("=")[0] in result.stderr


def test_patients_are_named_in_a_file_of_text(dataset, sheet, tmp_path):
    path, _ = sheet
    listed = tmp_path / "seen.txt"
    command = [
        "pseudo",
        str(path),
        "--images",
        f"{dataset}/test/DCM",
        "--out",
        f"{tmp_path}/out",
        "--seen",
        str(listed),
    ]
    assert CliRunner().invoke(app, command).exit_code == 2
    for content in ("ID001\n".encode("utf-16"), b"", b" \n"):
        listed.write_bytes(content)
        result = CliRunner().invoke(app, command)
        assert (result.exit_code, "seen.txt" in result.stderr) == (2, True), result.output
    assert not (tmp_path / "out").exists()
    listed.write_text("nobody\n")
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert provenance.read(tmp_path / "out").seen == Seen()


def test_the_labels_of_runs_are_held_against_the_image_too(trained):
    image = np.zeros((64, 48), np.uint8)
    found = Sources([trained], BONES, lambda _: image.shape).predict("", image)
    assert found.image is image
    assert found.size == image.shape


def test_annotations_are_the_competitions(dataset, sheet, tmp_path):
    path, _ = sheet
    make.make([path], dataset / "test" / "DCM", tmp_path / "pseudo")
    case = data.read(tmp_path / "pseudo").train[0]
    assert case.annotation is not None
    content = json.loads(case.annotation.read_text())
    assert content["filename"] == case.image.name
    assert content["parent_path"] == f"/{case.patient}"
    assert np.array_equal(annotations.read(case.annotation, images.size(case.image), BONES), data.read_labels(case))


@pytest.mark.parametrize(("images", "of_one", "tuned"), [(24, 1, True), (24, 10, False), (40, 1, True)])
def test_the_quality_measured_is_of_the_rules_that_are_written(images, of_one, tuned):
    """Without a patient who has 10 of 24 images no limit can be tuned, though it can with them."""
    measures = np.full((images, 2, len(MEASURES)), np.nan)
    measures[..., list(MEASURES).index("agreement")] = np.random.default_rng(0).uniform(0.6, 0.7, (images, 2))
    dice = np.full((images, 2), 0.8)
    patients = [f"ID{max(n, of_one)}" for n in range(images)]
    known = quality.OutOfFold(patients, measures, dice, dice - 0.1)
    rules = quality.rules(known)
    assert selection.tune(measures, dice).tuned.any()
    assert rules.tuned.any() == tuned
    measured, written = quality.judge(known, "it", Classes(("a", "b"))), selection.select(measures, rules).kept.mean()
    assert measured.kept == pytest.approx(written, abs=0.1)
    assert measured.kept == pytest.approx(float(tuned), abs=0.1)
    assert provenance.advice(measured.as_json(), selection=False).startswith(
        "out of fold the Dice of all is 0.8000, +0.1000 (+0.1000 to +0.1000) beside it"
    )


@pytest.mark.parametrize(("kept", "far"), [(0.42, True), (0.12, False)])
def test_the_quality_of_another_share_of_labels_is_told_apart(tmp_path, kept, far):
    dice, measures = np.full((8, 29), 0.9), np.full((8, 29, len(MEASURES)), np.nan)
    known = quality.OutOfFold([f"ID{n}" for n in range(8)], measures, dice, dice - 0.1)
    measured = replace(quality.judge(known, "it", BONES), kept=0.11)
    content = {"quality": measured.as_json(), "kept": kept}
    found = provenance.Provenance(tmp_path, content, Seen(), {"ID1/a": "0" * 64}, {})
    assert f"{kept:.1%} of their bones kept; out of fold 11.0% are kept, whose Dice is 0.9000" in found.advice()
    assert ("need not be the quality of these labels" in found.advice()) == far
    assert found.advice(selection=False).startswith(
        "1 pseudo-labelled images, all of their bones count, selected or not; out of fold the Dice of all is 0.9000"
    )
    assert "far apart" not in found.advice(selection=False)
