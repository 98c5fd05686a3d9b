"""Faults are planted in a clean phantom data set, and each must be found."""

import io
import json
import shutil

import cv2
import numpy as np
import pytest
from rich.console import Console

from carpus import data, labels, phantom
from carpus.check import Finding, check, render, to_json
from carpus.check.finding import SHOWN
from carpus.errors import DataError
from carpus.formats import annotations, images
from carpus.labels import BONES, Classes

SIZE = 512


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    out = tmp_path_factory.mktemp("check") / "data"
    phantom.write(out, patients=4, test_patients=2, size=SIZE, seed=3)
    return out


@pytest.fixture
def folder(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "data")


def case_of(folder, number=2):
    return data.read(folder).train[number]


def edit(case, change):
    """Rewrite the annotations of a case: `change(label, points)` gives the new label and points, or None to drop it."""
    content = json.loads(case.annotation.read_text())
    kept = []
    for annotation in content["annotations"]:
        new = change(annotation["label"], np.array(annotation["points"], float))
        if new is not None:
            label, points = new
            kept.append({**annotation, "label": label, "points": np.rint(points).astype(int).tolist()})
    case.annotation.write_text(json.dumps({**content, "annotations": kept}))


def exchange(case, *pairs):
    names = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    edit(case, lambda label, points: (names.get(label, label), points))


def only(bone, change):
    return lambda label, points: (label, change(points) if label == bone else points)


def digit(first, second):
    return tuple((f"finger-{first + i}", f"finger-{second + i}") for i in range(4))


def of(findings, *severities):
    return [finding for finding in findings if finding.severity in (severities or ("error", "warning"))]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_clean_data_set_has_no_findings(seed, tmp_path):
    phantom.write(tmp_path / "data", patients=12, test_patients=2, size=192, seed=seed)
    assert of(check(tmp_path / "data")) == []


@pytest.mark.parametrize(
    "pairs",
    [
        (("Trapezium", "Trapezoid"),),
        (("Scaphoid", "Lunate"),),
        (("Capitate", "Hamate"),),
        (("Radius", "Ulna"),),
        (("finger-5", "finger-9"),),
        (("finger-1", "finger-2"),),
        (("finger-12", "finger-16"),),
        digit(4, 8),
        digit(12, 16),
    ],
    ids=lambda pairs: f"{pairs[0][0]}-{pairs[0][1]}-{len(pairs)}",
)
@pytest.mark.parametrize("number", [0, 3])
def test_exchanged_labels_are_found_and_nothing_else(folder, pairs, number):
    case = case_of(folder, number)
    exchange(case, *pairs)
    found = of(check(folder))
    assert [(finding.case, finding.kind, finding.severity) for finding in found] == [(case.name, "swapped", "error")]
    assert found[0].bone == pairs[0][0]
    assert pairs[0][1] in found[0].message


def test_a_pisiform_drawn_on_the_ulna_is_found(folder):
    case = case_of(folder)
    shapes = {a["label"]: np.array(a["points"]) for a in json.loads(case.annotation.read_text())["annotations"]}
    ulna = shapes["Ulna"]
    head = ulna[ulna[:, 1] <= np.quantile(ulna[:, 1], 0.5)].mean(axis=0)
    edit(case, only("Pisiform", lambda points: points - points.mean(axis=0) + head))
    found = of(check(folder))
    assert [(finding.case, finding.kind, finding.bone) for finding in found] == [(case.name, "misplaced", "Pisiform")]
    assert found[0].severity == "error"
    assert found[0].message.endswith("on Ulna")


@pytest.mark.parametrize("bone", ["finger-1", "finger-7", "finger-11", "finger-16", "Capitate", "Trapezoid", "Lunate"])
def test_a_bone_drawn_elsewhere_is_found_and_its_neighbours_are_not(folder, bone):
    case = case_of(folder)
    edit(case, only(bone, lambda points: points + np.array([0, 0.08 * SIZE])))
    found = of(check(folder))
    assert {(finding.case, finding.kind, finding.bone) for finding in found} == {(case.name, "misplaced", bone)}


def test_missing_bones_are_named(folder):
    case = case_of(folder)
    edit(case, lambda label, points: None if label in ("Pisiform", "finger-11") else (label, points))
    found = of(check(folder))
    assert [(f.case, f.kind, f.bone) for f in found] == [
        (case.name, "missing", bone) for bone in ("finger-11", "Pisiform")
    ]


def test_labels_flipped_left_to_right_are_found(folder):
    case = case_of(folder)
    edit(case, lambda label, points: (label, (SIZE - 1, 0) + points * (-1, 1)))
    found = of(check(folder))
    assert {(finding.case, finding.kind, finding.severity) for finding in found} == {(case.name, "mirrored", "error")}
    assert any("second image" in f.message or "first image" in f.message for f in found)
    assert any("would lie on the image's bones" in f.message for f in found)


def test_image_and_labels_flipped_together_are_found_by_the_order_of_files(folder):
    case = case_of(folder)
    edit(case, lambda label, points: (label, (SIZE - 1, 0) + points * (-1, 1)))
    images.write(case.image, np.ascontiguousarray(images.read(case.image)[:, ::-1]))
    found = of(check(folder))
    assert [(f.case, f.kind) for f in found] == [(case.name, "mirrored")]
    assert "first image of a patient" in found[0].message


FINGERS_MIRRORED = (("finger-1", "finger-16"), ("finger-2", "finger-18"), ("finger-3", "finger-19"), *digit(4, 12))
CARPALS_MIRRORED = (("Trapezium", "Hamate"), ("Scaphoid", "Triquetrum"), ("Radius", "Ulna"))


@pytest.mark.parametrize("number", [0, 1, 6])
def test_fingers_counted_from_the_wrong_side_are_found(folder, number):
    case = case_of(folder, number)
    exchange(case, *FINGERS_MIRRORED)
    found = of(check(folder))
    assert {finding.case for finding in found} == {case.name}
    assert any(f.kind == "mirrored" and f.severity == "error" and "fingers" in f.message for f in found)


@pytest.mark.parametrize("number", [0, 1, 6])
def test_a_hand_labelled_as_the_other_hand_is_found(folder, number):
    case = case_of(folder, number)
    exchange(case, *FINGERS_MIRRORED, *CARPALS_MIRRORED)
    found = of(check(folder))
    assert {finding.case for finding in found} == {case.name}
    assert any(f.kind == "mirrored" and f.severity == "error" for f in found)


def test_labels_of_a_patients_two_hands_exchanged_are_found_in_both(folder):
    first, second = case_of(folder, 2), case_of(folder, 3)
    text = first.annotation.read_text()
    first.annotation.write_text(second.annotation.read_text())
    second.annotation.write_text(text)
    found = of(check(folder), "error")
    assert {(finding.case, finding.kind) for finding in found} == {(first.name, "mirrored"), (second.name, "mirrored")}


def test_files_of_a_patients_two_hands_exchanged_are_a_warning(folder):
    first, second = case_of(folder, 2), case_of(folder, 3)
    for one, other in ((first.image, second.image), (first.annotation, second.annotation)):
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
    found = of(check(folder))
    assert [(f.case, f.kind, f.severity) for f in found] == [(first.patient, "mirrored", "warning")]


def test_the_same_image_in_two_places_is_a_leak_however_it_is_stored(folder):
    case, dataset = case_of(folder), data.read(folder)
    test, other, twin = dataset.test[0], dataset.train[4], dataset.train[3]
    cv2.imwrite(str(test.image), cv2.imread(str(case.image)), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    shutil.copy(case.image, other.image)
    shutil.copy(case.image, twin.image)
    found = {(f.case, f.kind, f.severity) for f in of(check(folder)) if f.kind in ("leak", "duplicate")}
    assert found == {
        (test.name, "leak", "error"),
        (other.name, "leak", "error"),
        (twin.name, "duplicate", "warning"),
    }


def test_a_patient_in_two_splits_is_a_leak(folder):
    dataset = data.read(folder)
    image = dataset.test[0].image
    target = folder / "test" / "DCM" / dataset.train[0].patient
    target.mkdir()
    image.rename(target / image.name)
    found = of(check(folder), "error")
    assert [(f.case, f.kind) for f in found] == [(dataset.train[0].patient, "leak")]


def test_names_that_some_systems_cannot_tell_apart_are_errors(folder):
    case, dataset = case_of(folder), data.read(folder)
    other = dataset.train[4]
    other.image.rename(other.image.with_name(case.image.name.upper().replace("PNG", "png")))
    found = of(check(folder), "error")
    assert [f.kind for f in found] == ["name"]
    assert case.name in found[0].message


def test_a_folder_that_other_readers_refuse_is_still_checked(folder, tmp_path):
    case, broken = case_of(folder), case_of(folder, 4)
    shutil.copy(case.image, case.image.with_name(f"IMAGE{case.image.name[5:]}"))
    shutil.copy(broken.image, tmp_path / "outside.png")
    (case.image.parent / "link.png").symlink_to(tmp_path / "outside.png")
    exchange(broken, ("Trapezium", "Trapezoid"))
    found = of(check(folder), "error")
    assert {f.kind for f in found} == {"name", "swapped"}
    assert not any("link" in f.case for f in check(folder))


def test_two_images_of_one_name_are_an_error(folder):
    case = case_of(folder)
    cv2.imwrite(str(case.image.with_suffix(".bmp")), images.read(case.image))
    found = of(check(folder), "error")
    assert [(f.case, f.kind) for f in found] == [("train", "name")]
    assert case.image.stem in found[0].message


def test_a_link_to_itself_and_a_second_fault_are_two_findings(folder):
    case = case_of(folder)
    place = case.image.parent
    (place / "loop.png").symlink_to(place / "loop.png")
    (place / "away.png").symlink_to("/")
    (folder / "train" / "DCM" / "__MACOSX").mkdir()
    (folder / "train" / "DCM" / "__MACOSX" / "a.png").write_bytes(case.image.read_bytes())
    found = of(check(folder), "error")
    assert [f.kind for f in found] == ["name", "name"]


def test_nothing_found_is_said():
    text = io.StringIO()
    Console(file=text).print(render([]))
    assert "nothing found" in text.getvalue()


def test_unreadable_files_and_lonely_ones_are_named(folder):
    broken, garbled, unlabelled, gone = (case_of(folder, number) for number in (0, 2, 4, 6))
    broken.image.write_bytes(broken.image.read_bytes()[:1000])
    garbled.annotation.write_text("{")
    unlabelled.annotation.unlink()
    gone.image.unlink()
    found = {(f.case, f.kind, f.severity) for f in of(check(folder))}
    assert found == {
        (broken.name, "unreadable", "error"),
        (garbled.name, "unreadable", "error"),
        (unlabelled.name, "no labels", "warning"),
        (gone.name, "no image", "warning"),
    }


def test_an_unknown_class_is_an_unreadable_annotation(folder):
    case = case_of(folder)
    exchange(case, ("Pisiform", "Pisiforme"))
    found = of(check(folder), "error")
    assert [(f.case, f.kind) for f in found] == [(case.name, "unreadable")]
    assert "Pisiforme" in found[0].message


@pytest.mark.parametrize(("factor", "kinds"), [(3060 / 2048, {"annotation"}), (0.5, {"size"})])
def test_labels_drawn_on_another_size_are_found(folder, factor, kinds):
    case = case_of(folder)
    edit(case, lambda label, points: (label, points * factor))
    found = of(check(folder))
    assert {finding.case for finding in found} == {case.name}
    assert kinds <= {finding.kind for finding in found}


def test_an_inverted_image_is_found(folder):
    case = case_of(folder)
    images.write(case.image, 255 - images.read(case.image))
    assert [(f.case, f.kind) for f in of(check(folder))] == [(case.name, "contrast")]


def test_a_bone_too_small_is_found(folder):
    case = case_of(folder)
    edit(case, only("Hamate", lambda points: points.mean(axis=0) + 0.5 * (points - points.mean(axis=0))))
    assert [(f.case, f.kind, f.bone) for f in of(check(folder))] == [(case.name, "area", "Hamate")]


def test_a_bone_of_another_shape_is_found(folder):
    case = case_of(folder)
    edit(case, only("Capitate", lambda points: points.mean(axis=0) + (0.6, 1.6) * (points - points.mean(axis=0))))
    assert [(f.case, f.kind, f.bone) for f in of(check(folder))] == [(case.name, "shape", "Capitate")]


def test_labels_that_form_no_hand_are_one_finding(folder):
    case = case_of(folder)
    rng = np.random.default_rng(0)
    names = dict(zip(BONES, rng.permutation(BONES.names).tolist(), strict=True))
    edit(case, lambda label, points: (names[label], points))
    found = [f for f in of(check(folder)) if f.kind in ("misplaced", "swapped")]
    assert [(f.case, f.kind, f.bone, f.severity) for f in found] == [(case.name, "misplaced", None, "error")]


def test_pieces_and_holes_are_notes(folder):
    case = case_of(folder)
    drawn = data.read_labels(case)
    y, x = np.argwhere(labels.has(drawn, BONES.index("Radius"))).mean(axis=0).astype(int)
    drawn[y - 1 : y + 2, x - 1 : x + 2] &= ~np.int32(1 << BONES.index("Radius"))
    hamate = np.argwhere(labels.has(drawn, BONES.index("Hamate")))
    labels.paint(drawn, BONES.index("Hamate"), np.ones((2, 2), bool), *(hamate[0] - (5, 0)).tolist())
    annotations.write(case.annotation, drawn, BONES, case.image.name)
    findings = check(folder)
    assert of(findings) == []
    found = [(f.case, f.kind, f.bone, f.value) for f in of(findings, "note") if f.case == case.name]
    assert (case.name, "components", "Hamate", 2) in found
    assert (case.name, "holes", "Radius", 1) in found


def test_a_fault_that_all_labels_share_is_still_found(tmp_path):
    phantom.write(tmp_path / "data", patients=12, test_patients=0, size=192, seed=5)
    for case in data.read(tmp_path / "data").train:
        exchange(case, ("finger-5", "finger-9"))
    assert {f.kind for f in of(check(tmp_path / "data"))} == {"swapped"}
    assert len(of(check(tmp_path / "data"))) == 24


def test_other_classes_are_checked_without_an_anatomy(folder):
    for case in data.read(folder).train:
        edit(case, lambda label, points: (f"my {label}", points) if label in ("Radius", "Ulna") else None)
    case = case_of(folder)
    edit(case, lambda label, points: (label, points) if label == "my Radius" else None)
    shutil.rmtree(folder / "test_labels")
    found = of(check(folder, classes=Classes(("my Radius", "my Ulna"))))
    assert [(f.case, f.kind, f.bone) for f in found] == [(case.name, "missing", "my Ulna")]


def test_progress_counts_the_cases(folder):
    calls = []
    check(folder, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 12) for done in range(1, 13)]


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no images"):
        check(tmp_path)


def test_findings_print_by_severity_and_as_json():
    findings = [
        Finding("ID001/a", "swapped", "error", "[bold]exchanged", "Trapezium", 31.0),
        *(Finding(f"ID{n:03}/b", "holes", "note", "with 1 hole", "Radius", 1) for n in range(SHOWN + 2)),
    ]
    text = io.StringIO()
    Console(file=text, width=120).print(render(findings))
    shown = text.getvalue()
    assert "[bold]exchanged" in shown
    assert shown.index("errors: 1") < shown.index(f"notes: {SHOWN + 2}")
    assert "and 2 more (2 holes)" in shown
    assert shown.strip().endswith(f"1 error, 0 warnings, {SHOWN + 2} notes")
    plain = json.loads(json.dumps(to_json(findings), allow_nan=False))
    assert plain["counts"] == {"error": 1, "warning": 0, "note": SHOWN + 2}
    assert plain["findings"][0] == {
        "case": "ID001/a",
        "kind": "swapped",
        "bone": "Trapezium",
        "severity": "error",
        "message": "[bold]exchanged",
        "value": 31.0,
    }
