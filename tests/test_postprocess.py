"""Repairs of a mask, drawn."""

from pathlib import Path

import numpy as np
import pytest
import torch

from carpus import kernels
from carpus import labels as label_map
from carpus.errors import DataError
from carpus.labels import Classes
from carpus.postprocess import Calibration, Step, repair

CLASSES = Classes(("a", "b"))


def mask(drawing: str) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in row] for row in drawing.split()])


TWO = mask("""
    ###..#
    #.#..#
    ###...
""")


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Step(), TWO),
        (Step(largest=True), mask("###... #.#... ###...")),
        (Step(fill=True), mask("###..# ###..# ###...")),
        (Step(largest=True, fill=True), mask("###... ###... ###...")),
        (Step(least=0.2), TWO),
        (Step(least=0.21), mask("###... #.#... ###...")),
        (Step(least=0.9), mask("...... ...... ......")),
    ],
)
def test_a_mask_is_repaired_as_drawn(step: Step, expected: np.ndarray) -> None:
    assert np.array_equal(repair(TWO, step, everything=10), expected)


def test_a_gap_to_the_border_is_no_hole_and_a_diagonal_holds_together() -> None:
    assert np.array_equal(repair(mask("##. #.# ##."), Step(fill=True), 1), mask("##. ### ##."))
    assert np.array_equal(repair(mask("##. #.# #.."), Step(fill=True), 1), mask("##. #.# #.."))
    assert np.array_equal(repair(mask("#.. .#. ..#"), Step(largest=True), 1), mask("#.. .#. ..#"))


def test_only_the_class_that_asks_is_repaired() -> None:
    labels = label_map.pack(np.stack([TWO, TWO]))
    found = Calibration({"b": Step(largest=True)}, CLASSES).repaired(labels)
    assert np.array_equal(label_map.has(found, 0), TWO)
    assert label_map.has(found, 1).sum() == 8
    assert Calibration({}, CLASSES).repaired(labels) is labels


def test_logits_are_divided_before_they_are_cut() -> None:
    logits = torch.linspace(-4, 4, 1001)[None, None, None].expand(1, 2, 2, -1).contiguous()
    steps = Calibration({"a": Step(0.7, 2.0)}, CLASSES)
    found = kernels.threshold(steps.tempered(logits), steps.thresholds(), (2, 1001))[0, 0]
    assert torch.equal(found & 1 != 0, torch.sigmoid(logits[0, 0, 0].double() / 2) > 0.7)
    assert torch.equal(found & 2 != 0, logits[0, 1, 0] > 0)
    assert Calibration({"a": Step(0.7)}, CLASSES).tempered(logits) is logits


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = Calibration({"b": Step(0.3, 1.5, True, True, 0.01, (1, 0.5))}, CLASSES, [["x"], ["y", "z"]])
    made.write(tmp_path / "c.json", images=3)
    again = Calibration.read(tmp_path / "c.json", CLASSES)
    assert (again.steps, again.members) == (made.steps, made.members)
    with pytest.raises(DataError, match=r"c\.json: classes: unknown class 'a'"):
        Calibration.read(tmp_path / "c.json", Classes(("b",)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "classes: expected an object"),
        ('{"classes": {"a": {"size": 1}}}', "classes.a: expected"),
        ('{"classes": {"a": {"threshold": 1}}}', "classes.a.threshold: expected above 0 and below 1"),
        ('{"members": 1, "classes": {}}', "members: expected a list of lists"),
        ('{"classes": {"a": {"weights": [1]}}}', "classes.a.weights: expected one for each of 0 members"),
        ('{"classes": {"a": {"weights": [-1]}}}', "classes.a.weights: expected a list of numbers"),
        ('{"classes": {"a": {"threshold": "x"}}}', "classes.a.threshold: expected a number"),
        ('{"classes": {"a": {"temperature": 0}}}', "classes.a.temperature"),
        ('{"classes": {"a": {"largest": 1}}}', "classes.a.largest: expected true or false"),
        ('{"classes": {"a": {"least": 1}}}', "classes.a.least"),
    ],
)
def test_a_damaged_calibration_is_named(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(DataError, match=rf"c\.json: {told}"):
        Calibration.read(tmp_path / "c.json", CLASSES)
