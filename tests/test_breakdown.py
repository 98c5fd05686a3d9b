"""What an evaluation lists: metrics, kinds of images, bones taken for others; and the page of `carpus evaluate`."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from carpus import assess, breakdown, data, evaluate, run
from carpus import labels as label_map
from carpus.cli import app
from carpus.labels import BONES, Classes
from carpus.postprocess import Calibration, Step
from carpus.predict import Options

CLASSES = Classes(("a", "b", "c"), {"pair": ("a", "b")})


def drawn(*planes: str) -> np.ndarray:
    return label_map.pack(np.array([[[pixel == "#" for pixel in row] for row in plane.split()] for plane in planes]))


def test_confusions_are_counted_by_hand() -> None:
    truth = drawn("##.. ....", ".##. ....", "...# ....")
    found = drawn("#... ....", ".##. ...#", "#..# ....")
    counted = breakdown.Confusions(CLASSES)
    counted.add(truth, found)
    # One pixel of a was lost where b stays: that is an error of their overlap and no exchange.
    assert counted.pairs() == [("a", "b", 0, 1, 0.0), ("a", "c", 0, 1, 0.0)]
    swapped = breakdown.Confusions(CLASSES)
    swapped.add(drawn("##..", "....", "...."), drawn("#...", ".#..", "...."))
    swapped.add(drawn("....", "##..", "...."), drawn("##..", "....", "...."))
    [(a, b, pixels, wrong, dice)] = swapped.pairs()
    assert (a, b, pixels, wrong) == ("a", "b", 3, 0)
    assert np.isnan(dice)
    assert swapped.listing().rows == [["a, b", "3", "0", "–"]]
    assert breakdown.Confusions(CLASSES).listing() is None


def table(values: dict[str, float]) -> pandas.DataFrame:
    rows = [
        (case, case[0], "test", name, "dice", value + shift)
        for case, value in values.items()
        for name, shift in (("a", 0.0), ("b", 0.1), ("c", 0.2))
    ]
    return pandas.DataFrame(rows, columns=list(evaluate.COLUMNS))


def test_kinds_are_told_apart_and_unknown_ones_left_out() -> None:
    values = {f"{patient}{hand}": 0.5 + 0.01 * n for n, patient in enumerate("pqrstu") for hand in "12"}
    listing = breakdown.by_kind(
        table(values),
        {"pose": {case: "bent" if case[0] in "pq" else "straight" for case in values if case != "u2"}},
        CLASSES,
    )
    assert [row[:4] for row in listing.rows] == [
        ["pose: bent", "4", "2", "0.6050"],
        ["pose: straight", "7", "4", f"{0.6 + (2 * 0.02 + 2 * 0.03 + 2 * 0.04 + 0.05) / 7:.4f}"],
    ]
    assert breakdown.by_kind(table(values), {}, CLASSES) is None


def test_every_metric_is_listed_for_all_groups_and_classes() -> None:
    values = {f"{patient}1": 0.5 + 0.01 * n for n, patient in enumerate("pqrstu")}
    listing = breakdown.by_class(table(values), CLASSES)
    assert listing.columns == ["", "Dice", "95 %"]
    by_name = {row[0]: row[1:] for row in listing.rows}
    assert by_name["all"][0] == "0.6250"
    assert by_name["a"][0] == "0.5250"
    low, high = map(float, by_name["a"][1].split("–"))
    assert 0.5 < low < 0.525 < high < 0.55


def test_intervals_are_listed_where_there_are_enough_patients() -> None:
    values = {f"{patient}1": 0.5 + 0.01 * n for n, patient in enumerate("pqrst")}
    listing = breakdown.intervals(table(values).assign(metric="iou"), CLASSES)
    assert listing is not None
    assert listing.columns == ["", "IoU"]
    assert listing.rows[0][0] == "all"
    assert "–" in listing.rows[0][1].strip("–")
    values.popitem()
    assert breakdown.intervals(table(values).assign(metric="iou"), CLASSES) is None


def test_what_is_known_of_an_image(dataset: Path) -> None:
    found = data.read(dataset)
    for case in found.train:
        known = breakdown.kinds_of(case, data.read_labels(case), BONES, found.patients)
        assert known["pose"] in ("bent", "straight")
        assert known["sex"] == found.patients[case.patient].sex
    sides = [breakdown.kinds_of(case, data.read_labels(case), BONES, {})["thumb"] for case in found.train[:2]]
    assert sides == ["on the left", "on the right"]
    assert breakdown.kinds_of(found.train[0], label_map.empty((9, 9)), BONES, {}) == {}


def test_a_run_becomes_a_table_and_a_page(trained: Path, dataset: Path, tmp_path: Path) -> None:
    own, page = Path(shutil.copytree(trained, tmp_path / "own")), tmp_path / "page.html"
    scored, listings = assess.assess([run.read(own)], dataset, "test", page)
    assert set(scored["metric"]) == {"dice", "iou", "nsd_1px", "nsd_2px", "nsd_4px", "hd95_px"}
    text = page.read_text()
    for listing in listings:
        assert f"{listing.title}</h2>" in text
        assert listing.rows[0][0] in text
    assert text.count("<img ") >= 4
    wide = scored.pivot(index=["case", "class"], columns="metric", values="value")
    assert np.allclose(wide["iou"], wide["dice"] / (2 - wide["dice"]), atol=1e-3)
    assert (wide["nsd_1px"] <= wide["nsd_2px"]).all()
    assert wide["hd95_px"].max() <= np.hypot(96, 96)


def test_a_page_of_a_run_replaces_nothing_else(trained: Path, dataset: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    done = CliRunner().invoke(app, ["evaluate", str(trained), "--data", str(dataset), "--report", str(notes)])
    assert done.exit_code == 2, done.output
    assert "expected a name that ends in .html" in " ".join(done.output.split())
    assert notes.read_text() == "mine"


def test_a_page_says_how_it_was_made_and_leaves_the_scores_of_the_run_as_it_is(
    trained: Path, dataset: Path, tmp_path: Path
) -> None:
    own, page = Path(shutil.copytree(trained, tmp_path / "own")), tmp_path / "page.html"
    before = (own / run.SCORES).read_bytes()
    held_out = run.read(own).manifest["val_patients"]
    fitted = tmp_path / "c.json"
    Calibration({"Radius": Step(threshold=0.4)}, BONES, fitted_on=held_out).write(fitted)
    command = ["evaluate", str(own), "--data", str(dataset), "--split", "val", "--flip", "--turn", "5.0"]
    command += ["--calibration", str(fitted)]
    shown = CliRunner().invoke(app, [*command, "--report", str(page)])
    assert shown.exit_code == 0, shown.output
    assert f"carpus {' '.join(command)}" in page.read_text()
    for text in (shown.stderr, page.read_text()):
        assert "Optimistic: the calibration was fitted on the labels of" in text
    assert (own / run.SCORES).read_bytes() == before


def test_several_runs_are_scored_as_the_ensemble_they_are(trained: Path, dataset: Path, tmp_path: Path) -> None:
    runs = [run.read(shutil.copytree(trained, tmp_path / name)) for name in ("one", "two")]
    alone = evaluate.evaluate(runs[:1], data.read(dataset), "test")
    both = evaluate.evaluate(runs, data.read(dataset), "test")
    assert both["value"].to_numpy() == pytest.approx(alone["value"].to_numpy(), abs=1e-6)


def test_a_weighted_ensemble_is_scored_as_it_is_handed_in(trained: Path, dataset: Path, tmp_path: Path) -> None:
    own, other = (Path(shutil.copytree(trained, tmp_path / name)) for name in ("own", "other"))
    weights = load_file(other / run.WEIGHTS)
    save_file(weights | {"head.bias": weights["head.bias"] + 20}, other / run.WEIGHTS)
    runs = [run.read(own), replace(run.read(own), path=other)]
    alone = evaluate.evaluate(runs[:1], data.read(dataset), "test")
    first = evaluate.evaluate(runs, data.read(dataset), "test", options=Options(weights=(1, 0)))
    mixed = evaluate.evaluate(runs, data.read(dataset), "test", options=Options(weights=(1, {"Lunate": 0})))
    assert first["value"].to_numpy() == pytest.approx(alone["value"].to_numpy(), abs=1e-6)
    lunate = mixed["class"] == "Lunate"
    assert mixed[lunate]["value"].to_numpy() == pytest.approx(alone[lunate]["value"].to_numpy(), abs=1e-6)
    assert not np.allclose(mixed["value"], alone["value"])


def test_distances_are_in_mm_where_the_image_states_them(
    trained: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = data.read(dataset).test[:1]
    monkeypatch.setattr(evaluate.images, "spacing_mm", lambda _: (0.5, 0.5))

    def shifted(_: np.ndarray) -> np.ndarray:
        return np.roll(data.read_labels(cases[0]), 3, axis=1)

    found = evaluate.scores(shifted, cases, "test", BONES, borders=True)
    wide = found.pivot(index="class", columns="metric", values="value")
    assert np.allclose(wide["hd95_mm"], wide["hd95_px"] / 2)
    assert np.allclose(wide["nsd_1mm"], wide["nsd_2px"])
    monkeypatch.setattr(evaluate.images, "spacing_mm", lambda _: (0.5, 0.6))
    oblong = evaluate.scores(shifted, cases, "test", BONES, borders=True)
    assert "hd95_mm" not in set(oblong["metric"])
