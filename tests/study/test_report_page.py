"""What a page shows is told apart, corrected, and beside each other."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import long_names
import pytest

from carpus import config
from carpus.labels import BONES
from carpus.study import results
from carpus.study.judgement import Judgement
from carpus.study.report import arm_tables, by_class, contrast_tables, figures, page


@pytest.fixture(scope="module")
def judgement(tiny: Callable[..., config.Config], tmp_path_factory: pytest.TempPathFactory) -> Judgement:
    return long_names.judgement(tmp_path_factory.mktemp("runs"), tiny())


def written(drawing: str) -> str:
    """All text of a drawing in one line, but for what only a pointer shows."""
    return " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", drawing))


@pytest.mark.parametrize("draw", [figures.forest, by_class.classes])
def test_contrasts_are_named_in_full(judgement: Judgement, draw: Callable[[Judgement], str]) -> None:
    told = written(draw(judgement))
    for pair in long_names.CONTRASTS:
        assert f"{pair.arm} – {pair.against}" in told
    few = replace(judgement, judged=judgement.judged[-2:])
    assert all(f"{each.pair.arm} – {each.pair.against}" in written(draw(few)) for each in few.judged)


def test_arms_are_named_in_full(judgement: Judgement) -> None:
    for drawing in (figures.seeds(judgement), figures.learning(judgement.arms), figures.cost(judgement)):
        assert drawing is not None
        assert all(name in written(drawing) for name in long_names.ARMS)


def test_an_arm_that_was_validated_once_is_a_point_among_the_curves(
    judgement: Judgement, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = iter([[(50.0, 0.6), (100.0, 0.8)], [(100.0, 0.7)]])
    monkeypatch.setattr(figures, "_curve", lambda arm: next(curves))
    drawing = str(figures.learning(dict(list(judgement.arms.items())[:2])))
    assert drawing.count('class="curve') == 2 + 1  # that of each key
    assert drawing.count("<circle") == 2 + 1


def test_classes_are_framed_only_where_the_mean_differs(judgement: Judgement) -> None:
    framed = dict(zip(long_names.CONTRASTS, by_class.beyond_chance(judgement), strict=True))
    decided = {each.pair for each in judgement.judged if each.word == "better"}
    assert decided == {pair for pair in long_names.CONTRASTS if pair.arm == long_names.BETTER}
    assert all(framed[pair] >= {"all", "carpals", *BONES} for pair in decided)
    # The Lunate of the first arm differs, by its own p, but no mean does that it is part of.
    (lunate,) = (each for each in judgement.judged if each.pair == long_names.CONTRASTS[0])
    assert lunate.word == "cannot tell"
    assert lunate.dice.p[lunate.columns.index("Lunate")] < 0.001
    assert not any(framed[pair] for pair in long_names.CONTRASTS if pair not in decided)
    assert by_class.classes(judgement).count('"framed"') == sum(map(len, framed.values()))


def test_frames_are_corrected_for_classes_and_for_contrasts(judgement: Judgement) -> None:
    first, *others = judgement.judged[::-1]
    p = first.dice.p.copy()
    p[1:] = 0.01
    p[1] = 0.001
    alone = replace(first, dice=replace(first.dice, p=p), p=0.01)
    many = [replace(each, p=0.9) for each in others]
    assert by_class.beyond_chance(replace(judgement, judged=(alone,))) == [{"all", "fingers"}]
    assert by_class.beyond_chance(replace(judgement, judged=(alone, *many)))[0] == {"all"}


def test_the_words_about_labels_are_broken_into_lines(judgement: Judgement, tmp_path: Path) -> None:
    name, arm = next(iter(judgement.arms.items()))
    quality = {"dice": 0.7, "kept_dice": 0.8, "kept": 0.5, "gain": 0.1, "low": 0.0, "high": 0.2, "student": "it"}
    taught = {"pseudo": {"quality": quality | {"in_sample": False, "poor": []}, "kept": 0.5}}
    runs = tuple(replace(outcome, manifest=outcome.manifest | taught) for outcome in arm.runs)
    arms = {**judgement.arms, name: results.Arm(name, runs)}
    page.write(tmp_path / "page.html", replace(judgement, arms=arms), title="Long")
    told = (tmp_path / "page.html").read_text()
    assert '<table aria-label="Pseudo-labels, before they were learnt from" class="words">' in told


def test_a_missing_bone_is_told_where_borders_are(judgement: Judgement) -> None:
    for listing in (contrast_tables.verdicts(judgement), arm_tables.borders(judgement)):
        assert "counts 0 in NSD and the image's diagonal in HD95" in listing.told


def test_nsd_and_hd95_have_intervals(judgement: Judgement) -> None:
    listing = contrast_tables.verdicts(judgement)
    for head in ("NSD 2 px", "HD95, px"):
        place = listing.columns.index(head)
        assert listing.columns[place + 1] == f"{head.split(',')[0]}: 95 %"
        for row in listing.rows:
            value, low, high = (
                float(number.replace("−", "-")) for number in (row[place], *row[place + 1].split(" to "))
            )
            assert low <= value <= high
            assert high > low
