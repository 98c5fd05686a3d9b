"""What else may explain a difference is told, whichever arm comes first; and where there is nothing to tell."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from carpus import config, run
from carpus.errors import DataWarning
from carpus.formats import files
from carpus.labels import BONES
from carpus.study import budget, flags, judge, omissions, published, results, spec, tasks
from carpus.study.flags import Flag, Lack
from carpus.study.report import arm_tables, contrast_tables, figures, page, words
from carpus.study.spec import Pair
from study import planted

Tiny = Callable[..., config.Config]

PATIENTS = [f"ID{number:02}" for number in range(8)]


def a_run(folder: Path, settings: config.Config, values: float | Sequence[float] = 0.9, **facts: Any) -> Path:
    """A finished run that scored the same patients: all of them alike, or each by a value of its own."""
    dice = np.broadcast_to(np.reshape(values, (-1, 1)), (len(PATIENTS), 29)).astype(float)
    table = planted.table(dice, [(f"{name}/image{name}", name) for name in PATIENTS], "test", BONES)
    return planted.write_run(folder, {"test": table}, settings=settings, **facts)


def an_arm(name: str, *folders: Path) -> results.Arm:
    return results.Arm(name, tuple(results.read_run(folder, seed=seed) for seed, folder in enumerate(folders)))


def causes(one: results.Arm, other: results.Arm, study: spec.Study | None = None) -> dict[str, str]:
    """By kind, what else the difference of two arms may come from."""
    return {flag.kind.value: flag.why for flag in flags.other_causes(one, other, study)}


def both_ways(one: results.Arm, other: results.Arm, study: spec.Study | None = None) -> tuple[dict[str, str], ...]:
    return causes(one, other, study), causes(other, one, study)


def test_the_steps_of_the_run_that_an_arm_started_from_count(tiny: Tiny, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    first = a_run(runs / "first", tiny("train.steps=6"))
    second = a_run(runs / "second", tiny("train.steps=6", f"model.weights={first / run.WEIGHTS}"))
    third = a_run(runs / "third", tiny("train.steps=5", f"model.weights={second / run.WEIGHTS}"))
    short, long, longest = (an_arm(path.name, path) for path in (first, second, third))
    assert both_ways(long, short) == ({"budget": "steps 12 against 6"}, {"budget": "steps 6 against 12"})
    assert budget.of(longest).steps == 17
    assert longest.seconds == 3 * 60
    judgement = judge.judge({"short": short, "longest": longest}, [Pair("longest", "short")])
    times = {row[0]: row[6] for row in arm_tables.costs(judgement).rows}
    assert times == {"short": "60 s", "longest": "3.0 min"}
    assert "longest: 0.9000, 3.0 min" in str(figures.cost(judgement))
    moved = runs.rename(tmp_path / "moved")
    assert budget.of(an_arm("third", moved / "third")).steps == 17
    third = (moved / "third").rename(tmp_path / "third")
    with pytest.warns(DataWarning, match="second, is not there; its steps and time are not counted"):
        assert budget.of(an_arm("third", third)).steps == 5


@pytest.mark.parametrize(
    ("facts", "settings", "paired"),
    [
        ({"identity": "first{seed}"}, {}, True),  # the same run, predicted with fitted thresholds
        ({"identity": "second{seed}", "continued": {"identity": "first{seed}"}}, {}, True),
        ({"identity": "second{seed}"}, {"start": "first{seed}"}, True),
        ({"identity": "second{seed}"}, {}, False),
        ({"identity": "second{seed}"}, {"start": "first0"}, False),
        ({}, {}, False),  # made before trainings had an identity
    ],
)
def test_runs_that_share_a_training_are_paired(
    tiny: Tiny, tmp_path: Path, facts: dict[str, Any], settings: dict[str, str], paired: bool
) -> None:
    def named(value: dict[str, Any], seed: int) -> dict[str, Any]:
        return json.loads(json.dumps(value).replace("{seed}", str(seed)))

    draw, arms = np.random.default_rng(0), dict[str, results.Arm]()
    for name in ("first", "second"):
        folders = []
        for seed in range(3):
            start = named(settings, seed).get("start") if name == "second" else None
            chosen = tiny(f"model.weights={tmp_path / start / run.WEIGHTS}") if start else tiny()
            about = named(facts, seed) if name == "second" else {"identity": f"first{seed}"}
            folders.append(a_run(tmp_path / f"{name}{seed}", chosen, draw.random(len(PATIENTS)), **about))
        arms[name] = an_arm(name, *folders)
    (judged,) = judge.judge(arms, [Pair("second", "first")]).judged
    assert judged.dice.paired == paired
    assert {name: of.paired for name, of in judged.others.items()} == {"nsd_2px": paired, "hd95_px": paired}
    assert all(np.isnan(of.p_equivalent).all() for of in judged.others.values())  # a margin is one of Dice


def test_what_was_known_of_pseudo_labels_stands_in_the_report(tiny: Tiny, tmp_path: Path) -> None:
    quality = {"images": 24, "dice": 0.7, "kept_dice": 0.8, "kept": 0.055, "gain": 0.01, "low": -0.01, "high": 0.03}
    quality |= {"student": "the run", "in_sample": False, "poor": []}
    measured = quality | {"all_gain": -0.2, "all_low": -0.3, "all_high": -0.1}
    taught = a_run(tmp_path / "taught", tiny(), pseudo={"images": {}, "quality": measured, "kept": 0.2})
    naive = tiny("data.pseudo.selection=false")
    every = a_run(tmp_path / "every", naive, pseudo={"images": {}, "quality": measured, "kept": 0.2})
    before = a_run(tmp_path / "before", naive, pseudo={"images": {}, "quality": quality})
    blind = a_run(tmp_path / "blind", tiny(), pseudo={"images": {}, "quality": None})
    arms = {name: an_arm(name, *of) for name, of in {"taught": (taught, blind), "naive": (every, before)}.items()}
    arms |= {"plain": an_arm("plain", a_run(tmp_path / "plain", tiny()))}
    rows = arm_tables.labels(judge.judge(arms, [Pair("taught", "plain")])).rows
    kept = [["taught", "0", "20%", "6%"], ["taught", "1", "–", "–"]]
    assert [row[:4] for row in rows] == [*kept, ["naive", "0", "100%", "100%"], ["naive", "1", "100%", "100%"]]
    told = [row[4] for row in rows]
    assert "out of fold 5.5% are kept, whose Dice is 0.8000, +0.0100 (-0.0100 to +0.0300)" in told[0]
    assert "never measured" in told[1]
    assert "out of fold the Dice of all is 0.7000, -0.2000 (-0.3000 to -0.1000)" in told[2]
    assert told[3].endswith("0.7000, unknown how much above the run: it was not measured")
    assert all("advised against" in told[n] for n in (0, 2))


def test_a_training_that_only_one_arm_has_is_left_out(tiny: Tiny, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    luck = draw.normal(0, 0.05, (3, len(PATIENTS)))
    arms = {}
    for name, seeds, gain in (("base", 3, 0.0), ("fitted", 2, 0.001)):
        folders = [
            a_run(tmp_path / f"{name}{n}", tiny(), 0.8 + gain + luck[n], identity=f"training {n}") for n in range(seeds)
        ]
        arms[name] = an_arm(name, *folders)
    judgement = judge.judge(arms, [Pair("fitted", "base")])
    (judged,) = judgement.judged
    assert (judged.dice.paired, judged.dice.seeds) == (True, (2, 2))
    assert judged.difference == pytest.approx(0.001)
    assert omissions.sentences(judgement) == [
        "fitted against base: seed 2 of base is left out, because the other arm has no run of its training"
    ]


def test_the_scatter_of_shared_trainings_plans_no_others(tiny: Tiny, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    luck = draw.normal(0, 0.05, (2, len(PATIENTS)))
    base, fitted = (
        an_arm(name, *(a_run(tmp_path / f"{name}{n}", tiny(), 0.8 + luck[n] + draw.normal(0, 0.001, 8), identity=f"{n}")
                       for n in range(2)))
        for name in ("base", "fitted")
    )  # fmt: skip
    other = an_arm("other", a_run(tmp_path / "other", tiny(), 0.81 + luck[0]))
    pairs = [Pair("fitted", "base"), Pair("other", "base")]
    shared, alone = judge.judge({"base": base, "fitted": fitted, "other": other}, pairs).judged
    assert shared.dice.paired
    assert shared.assumed == ""
    assert "assumed" in alone.assumed


def test_learnt_test_images_are_flagged_from_the_runs_alone(tiny: Tiny, tmp_path: Path) -> None:
    learnt = {f"elsewhere/image{name}": "0" * 64 for name in PATIENTS[:6]}
    semi = a_run(tmp_path / "semi", tiny(), pseudo={"images": learnt})
    tuned = a_run(tmp_path / "tuned", tiny(f"model.weights={semi / run.WEIGHTS}"))
    plain = a_run(tmp_path / "plain", tiny(), pseudo=None)
    told = "learnt from 6 of the 8 test images, with predictions for labels"
    arms = {path.name: an_arm(path.name, path) for path in (semi, tuned, plain)}
    assert both_ways(arms["semi"], arms["plain"]) == ({"transductive": told}, {"transductive": f"semi: {told}"})
    assert causes(arms["tuned"], arms["plain"])["transductive"] == told
    assert "transductive" not in causes(arms["semi"], arms["tuned"])
    # The run that it started from is elsewhere, but its own manifest has what that one learnt.
    alone = a_run(tmp_path / "alone", tiny(), start_images=sorted(learnt.items()))
    assert causes(an_arm("alone", alone), arms["plain"])["transductive"] == told


def test_flags_of_the_file_hold_whichever_arm_comes_first(tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "three.yaml"
    arms = {
        "plain": {"base": "tiny", "published": {"val": 0.9, "public": 0.9, "private": 0.9}},
        "semi": {
            "base": "tiny",
            "flags": {"transductive": "saw them", "budget": "saw more"},
            "published": {"val": 0.9, "public": 0.91, "private": 0.92},
        },
        "other": {"base": "tiny", "control": "semi"},
    }
    content = {
        "name": "Three",
        "question": "?",
        "control": "plain",
        "arms": arms,
        "contrasts": [["plain", "semi"]],
        "scales": {"quick": {"bases": {"tiny": {"recipe": "demo"}}}},
    }
    path.write_text(yaml.safe_dump(content))
    study = spec.load(path)
    plain, semi, other = (an_arm(name, a_run(tmp_path / name, tiny())) for name in arms)
    assert both_ways(semi, plain, study) == (
        {"transductive": "saw them", "budget": "saw more"},
        {"transductive": "semi: saw them", "budget": "semi: saw more"},
    )
    assert both_ways(other, semi, study)[0] == {"transductive": "semi: saw them"}  # its budget is against plain
    (only,), _ = published.judge([study])
    assert (only.word, only.why) == ("confounded", "semi: saw more; semi: saw them")


def test_two_percent_of_the_parameters_make_another_network(tiny: Tiny, tmp_path: Path) -> None:
    of = {count: an_arm("a", a_run(tmp_path / f"{count}", tiny(), parameters=count)) for count in (1000, 1019, 1021)}
    assert causes(of[1019], of[1000]) == {}
    assert causes(of[1021], of[1000]) == {"budget": "parameters 1,021 against 1,000"}


def test_labels_as_large_as_the_image_need_not_be_told(tiny: Tiny, tmp_path: Path) -> None:
    told, untold, smaller = (
        an_arm(size, a_run(tmp_path / size, tiny("data.image_size=64", f"data.label_size={size}")))
        for size in ("64", "null", "32")
    )
    assert causes(untold, told) == {}
    assert causes(smaller, untold) == {"budget": "label size 32 against 64"}


def test_what_one_run_of_an_arm_does_not_tell_is_no_difference(tiny: Tiny, tmp_path: Path) -> None:
    settings = tiny()
    whole = an_arm("whole", *(a_run(tmp_path / f"{n}", settings, train_patients=["ID1"]) for n in range(2)))
    silent = replace(whole.runs[0], manifest={"steps": 3})
    part = results.Arm("part", (silent, whole.runs[1]))
    assert math.isnan(budget.of(part).training_patients)
    assert both_ways(part, whole) == ({}, {})


@pytest.mark.parametrize(("kept", "told"), [([[], []], "none"), ([[], ["Lunate"]], "1 in 2 runs, without a change")])
def test_thresholds_that_changed_nothing_say_what_helped(
    tiny: Tiny, tmp_path: Path, kept: list[list[str]], told: str
) -> None:
    draw, arms = np.random.default_rng(0).random((2, len(PATIENTS))), dict[str, results.Arm]()
    for name in ("plain", "fitted"):
        paths = [a_run(tmp_path / f"{name}{n}", tiny(), draw[n].tolist(), identity=f"{n}") for n in (0, 1)]
        arms[name] = an_arm(name, *paths)
    for outcome, steps in zip(arms["fitted"].runs, kept, strict=True):
        files.write_json(outcome.path / tasks.CALIBRATION, {"kept": steps})
    judgement = judge.judge(arms, [Pair("fitted", "plain")])
    (only,) = judgement.judged
    assert only.word == "cannot tell"
    (flag,) = only.flags
    assert (flag.kind, flag.other_cause) == (Lack.NOTHING_FITTED, False)
    start = "fitted: thresholds and repairs that helped beyond chance on the patients held out: "
    assert flag.why.startswith(start + told)
    # Its validation patients are those that were fitted on.
    drawing = str(figures.learning(judgement.arms))
    assert "plain" in drawing
    assert "fitted" not in drawing


@pytest.mark.parametrize(("values", "lack"), [([0.0, 0.0], Lack.COLLAPSED), ([0.9, 0.9], Lack.NO_SCATTER)])
def test_scores_that_do_not_differ_are_no_equivalence(
    tiny: Tiny, tmp_path: Path, values: list[float], lack: Lack
) -> None:
    made = {
        name: an_arm(name, *(a_run(tmp_path / f"{name}{seed}", tiny(), values[seed]) for seed in (0, 1)))
        for name in ("a", "b")
    }
    judgement = judge.judge(made, [Pair("a", "b")])
    (only,) = judgement.judged
    assert only.word == "cannot tell"
    assert only.interval is None
    assert math.isnan(only.p)
    assert math.isnan(only.detectable)
    assert [(flag.kind, flag.other_cause) for flag in only.flags] == [(lack, False)]
    assert words.needed(only) == "there is nothing to judge by"
    assert contrast_tables.verdicts(judgement).rows[0][:2] == ["a against b", f"cannot tell, {lack}"]
    page.write(tmp_path / "page.html", judgement, title="Nothing")
    assert "<dt>Detectable</dt>" not in (tmp_path / "page.html").read_text()


def test_an_arm_that_collapsed_is_worse_and_named(tiny: Tiny, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    good = [a_run(tmp_path / f"g{n}", tiny(), draw.uniform(0.85, 0.95, len(PATIENTS)).tolist()) for n in (0, 1)]
    bad = [a_run(tmp_path / f"b{n}", tiny(), 0.0) for n in (0, 1)]
    judgement = judge.judge({"good": an_arm("good", *good), "bad": an_arm("bad", *bad)}, [Pair("bad", "good")])
    (only,) = judgement.judged
    assert only.word == "worse"
    assert only.flags == (Flag(Lack.COLLAPSED, "bad: 2 of 2 runs below a mean Dice of 0.02"),)


def test_an_arm_without_test_scores_moves_all_verdicts_and_is_named(tiny: Tiny, tmp_path: Path) -> None:
    draw, arms = np.random.default_rng(0), dict[str, results.Arm]()
    for name, splits in {"a": ("val", "test"), "b": ("val", "test"), "c": ("val",)}.items():
        made = {}
        for split in splits:
            cases = [(f"{split}/{number}", f"{split}{number}") for number in range(6)]
            made[split] = planted.table(draw.uniform(0.8, 0.9, (6, 29)), cases, split, BONES)
        arms[name] = an_arm(name, planted.write_run(tmp_path / name, made, settings=tiny()))
    both = judge.judge(arms, [Pair("b", "a")])
    assert both.splits == results.TEST
    assert omissions.sentences(both) == []
    judgement = judge.judge(arms, [Pair("b", "a"), Pair("c", "a")])
    assert judgement.splits == ("val",)
    told = "c: no scores on test images, so that every verdict is about the validation patients"
    told += "; `carpus evaluate RUN --data DATA --split test` makes them"
    assert omissions.sentences(judgement) == [told]
    none = judge.judge(arms, [Pair("c", "c")])
    assert omissions.sentences(none) == []
    page.write(tmp_path / "page.html", judgement, title="Three")
    assert told in (tmp_path / "page.html").read_text()
