"""A report says what the scores carry: planted studies, whole pages, and runs without a study file."""

import csv
import html.parser
import re
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
import yaml
from typer.testing import CliRunner, Result

from carpus import run
from carpus.cli import app
from carpus.study import (
    conduct,
    flags,
    gather,
    judge,
    omissions,
    pairing,
    published,
    results,
    spec,
    stats,
    table,
    tasks,
)
from carpus.study.flags import Flag, Lack
from carpus.study.judgement import Judged, Judgement
from carpus.study.report import answers, contrast_tables, words
from carpus.study.spec import Cause, Pair
from carpus.study.stats import Spread
from study import planted

CASES = {
    split: [(f"ID{n:03}/{side}", f"ID{n:03}") for n in numbers for side in "LR"]
    for split, numbers in {"val": range(10), "public": range(20, 35), "private": range(35, 50)}.items()
}

ARMS = {
    "plain": {"base": "tiny", "published": {"val": 0.944, "public": 0.942, "private": 0.943}},
    "good": {
        "base": "tiny",
        "set": {"train": {"loss": {"dice": 1}}},
        "published": {"val": 0.95, "public": 0.949, "private": 0.95},
    },
    "bad": {"base": "tiny", "set": {"train": {"learning_rate": 0.01}}},
    "same": {"base": "tiny", "set": {"train": {"learning_rate": 0.02}}},
    "longer": {"base": "tiny", "set": {"train": {"steps": 9}}, "flags": {"budget": "more steps"}},
    "semi": {"base": "tiny", "set": {"train": {"clip": 2.0}}, "flags": {"transductive": "saw the test images"}},
    "never": {"base": "tiny", "set": {"train": {"clip": 3.0}}},
}
EFFECTS = {"good": 0.01, "bad": -0.01, "longer": 0.01}
CLOSE = Spread(0.0006, 0.0001, 0.0003)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "six.yaml"
    content = {
        "name": "Six & <more>",
        "question": "Which?",
        "control": "plain",
        "arms": ARMS,
        "contrasts": [[name, "plain"] for name in ARMS if name != "plain"],
        "claims": [{"text": "Good is good.", "contrasts": [["good", "plain"]]}],
        "regrets": [{"text": "Longer.", "arms": ["longer"]}],
        "scales": {"quick": {"seeds": 3, "bases": {"tiny": {"recipe": "demo", "set": {"train": {"steps": 6}}}}}},
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def out(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted") / "out"
    return planted.write_study(folder, study, EFFECTS, cases=CASES, spread=CLOSE, skip=("never",), carpals=3.0)


@pytest.fixture(scope="module")
def judgement(out: Path) -> Judgement:
    opened = conduct.open_(out)
    arms, _ = gather.of_study(opened)
    return judge.judge(arms, opened.study.contrasts, study=opened.study)


def carpus(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def by_arm(judgement: Judgement) -> dict[str, Judged]:
    return {each.pair.arm: each for each in judgement.judged}


def test_the_verdicts_are_those_that_were_planted(judgement: Judgement) -> None:
    words = {name: each.word for name, each in by_arm(judgement).items()}
    assert words == {"good": "better", "bad": "worse", "same": "equivalent", "longer": "better", "semi": "equivalent"}
    good = by_arm(judgement)["good"]
    assert good.interval is not None
    assert good.interval[0] < 0.01 < good.interval[1]
    assert good.dice.patients == 30  # public and private together, both hands of a patient one
    assert judgement.absent == (Pair("never", "plain"),)


def test_a_difference_is_found_in_the_classes_where_it_was_planted(judgement: Judgement) -> None:
    good = by_arm(judgement)["good"]
    of = dict(zip(good.columns, good.dice.difference.tolist(), strict=True))
    assert of["carpals"] > 2 * of["fingers"] > 0
    assert of["all"] == pytest.approx(sum(of[name] for name in planted.BONES) / 29)
    assert list(pairing.columns(planted.BONES))[:4] == ["all", "fingers", "carpals", "forearm"]


def test_another_budget_and_seen_test_images_are_flagged(judgement: Judgement) -> None:
    found = {name: each.flags for name, each in by_arm(judgement).items()}
    assert found["longer"] == (Flag(Cause.BUDGET, "more steps; steps 9 against 6"),)
    assert found["semi"] == (Flag(Cause.TRANSDUCTIVE, "saw the test images"),)
    assert found["good"] == ()
    assert all(flag.other_cause for of in found.values() for flag in of)


def test_a_regret_is_answered_by_contrasts_on_either_side(out: Path, judgement: Judgement) -> None:
    study = conduct.open_(out).study
    (asked,) = study.regrets
    regrets = (asked.model_copy(update={"arms": ("good", "plain", "never")}),)
    rows = {row[1]: row[2] for row in answers.regrets(judgement, study.model_copy(update={"regrets": regrets})).rows}
    assert re.fullmatch(r"better \(\+0\.\d+ to plain\)", rows["good"])
    assert re.match(r"good against it: better \(\+0\.\d+\); bad against it: worse", rows["plain"])
    assert rows["never"] == "no runs"


def test_an_arm_that_learnt_from_test_images_is_judged_on_val_besides(study: Path, tmp_path: Path) -> None:
    """One that is worse wherever it did not see the images, as planted on Val alone."""
    planted.write_study(tmp_path / "out", study, {}, cases=CASES, spread=CLOSE)
    opened = conduct.open_(tmp_path / "out")
    for row in opened.rows:
        if row.arm == "semi":
            path = tmp_path / "out" / "runs" / row.key / run.SCORES
            scores = pandas.read_csv(path)
            scores.loc[(scores["split"] == "val") & (scores["metric"] == "dice"), "value"] -= 0.05
            scores.to_csv(path, index=False)
    arms, _ = gather.of_study(opened)
    found = judge.judge(arms, opened.study.contrasts, study=opened.study)
    semi, (on_val,) = by_arm(found)["semi"], found.on_val
    assert (semi.word, semi.dice.patients, semi.flagged(Cause.TRANSDUCTIVE)) == ("equivalent", 30, True)
    assert (on_val.pair, on_val.word, on_val.dice.patients, on_val.flags) == (semi.pair, "worse", 10, ())
    assert found.tests == judge.planned_tests(opened.study) == len(opened.study.contrasts) + 1
    # All verdicts of the page are one family: Holm over seven tests.
    p = [float(each.dice.p[0]) for each in (*found.judged, on_val)]
    assert [each.p for each in (*found.judged, on_val)] == pytest.approx(stats.holm(p, tests=7))
    done = carpus("study", "report", tmp_path / "out", "--no-pictures")
    assert "Verdicts on Val" in done.output
    shown = (tmp_path / "out" / "tables" / "tables.md").read_text()
    assert "Holm-corrected over 7 tests, 6 contrasts and 1 of them on Val besides" in shown
    assert "seeds an arm, 10 patients. No manifest says that Val chose a checkpoint of these arms." in shown
    page = (tmp_path / "out" / "report.html").read_text()
    low, high = (f"{end([each.detectable for each in found.judged]):.4f}" for end in (min, max))
    assert f"<dt>Detectable</dt><dd>{low}–{high}</dd>" in page
    assert "Flagged: transductive. On Val, whose images neither learnt from: worse, −0.0" in page
    figure = (tmp_path / "out" / "figures" / "differences.svg").read_text()
    assert "semi, on Val" in figure
    assert "semi against plain, on Val: -0.0" in figure
    best = replace(arms["semi"].runs[0], manifest={"weights": {"chosen_by_validation": True}})
    told = words.chosen_by_val(["plain", "semi"], arms | {"semi": results.Arm("semi", (best,))})
    assert told == " Val chose the checkpoint of semi and is optimistic for them."


def test_another_budget_is_told_once_and_not_on_val_again(judgement: Judgement) -> None:
    longer = by_arm(judgement)["longer"]
    again = replace(longer, flags=(*longer.flags, Flag(Lack.COLLAPSED, "low")))
    listing = contrast_tables.warnings(replace(judgement, judged=(longer,), on_val=(again,)))
    assert listing.rows == [
        ["longer against plain", "confounded: budget", "more steps; steps 9 against 6"],
        ["longer against plain, on Val", "collapsed", "low"],
    ]


def test_an_arm_without_val_says_nothing_of_images_it_never_saw(study: Path, tmp_path: Path) -> None:
    cases = {split: of for split, of in CASES.items() if split != "val"}
    planted.write_study(tmp_path / "out", study, {}, cases=cases, spread=CLOSE)
    opened = conduct.open_(tmp_path / "out")
    arms, _ = gather.of_study(opened)
    found = judge.judge(arms, opened.study.contrasts, study=opened.study)
    assert (found.on_val, found.tests) == ((), len(opened.study.contrasts))
    (told,) = omissions.sentences(found)
    assert told.startswith("semi against plain: learnt from test images, and not every run has Val")


def test_failed_arms_are_named_with_the_reason_and_their_contrasts_as_not_judged(study: Path, tmp_path: Path) -> None:
    out = planted.write_study(tmp_path / "out", study, EFFECTS, cases=CASES, spread=CLOSE, skip=("never",))
    rows = [row for row in conduct.open_(out).rows if row.arm == "never"]
    for row in rows[::2]:
        tasks.fail(out, row.key, ArithmeticError("step 2: the loss is nan"))
    done = carpus("study", "report", out, "--no-pictures")
    assert done.exit_code == 0, done.output
    why = "never failed (seed 0, fold 0, seed 2, fold 0): ArithmeticError: step 2: the loss is nan"
    assert why in (out / "tables" / "tables.md").read_text()
    page = (out / "report.html").read_text()
    assert why in page
    assert '<b class="not-judged">not judged</b>never against plain: no finished run of never.' in page
    assert list(table.standing(out, rows).failed) == [row.key for row in rows[::2]]


def test_an_equal_steps_control_takes_the_flag_away(judgement: Judgement) -> None:
    longer = judgement.arms["longer"]
    control = results.Arm("control", longer.runs)
    assert flags.other_causes(longer, control) == ()


def test_one_seed_cannot_tell_whatever_the_difference(study: Path, tmp_path: Path) -> None:
    planted.write_study(tmp_path / "out", study, {"good": 0.3}, cases=CASES, seeds=1, spread=CLOSE)
    arms, _ = gather.of_study(conduct.open_(tmp_path / "out"))
    (only,) = judge.judge(arms, [Pair("good", "plain")]).judged
    assert only.word == "cannot tell"
    assert only.interval is None
    assert only.needed is not None
    assert "assumed" in only.assumed


def test_an_undecided_contrast_says_what_it_would_take(study: Path, tmp_path: Path) -> None:
    planted.write_study(tmp_path / "out", study, {"good": 0.002}, cases=CASES, seeds=2)
    arms, _ = gather.of_study(conduct.open_(tmp_path / "out"))
    (only,) = judge.judge(arms, [Pair("good", "plain")]).judged
    assert only.word == "cannot tell"
    assert only.needed is not None
    assert only.needed.seeds > 2 or only.needed.patients > 30


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [
            value for name, value in attrs if name in ("src", "href") and not str(value).startswith("data:")
        ]


def test_the_report_is_a_page_of_its_own_with_tables_and_figures_beside(out: Path) -> None:
    done = carpus("study", "report", out, "--no-pictures")
    assert done.exit_code == 0, done.output
    text = (out / "report.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.tags.count("svg") == 5
    assert page.tags.count("table") >= 7
    assert "script" not in page.tags
    assert page.outside == []
    for told in ("Six &amp; &lt;more&gt;", "Not all runs are in: 3 waiting of 21", "confounded: budget", "SHA-256"):
        assert told in text, told
    assert sorted(path.name for path in (out / "figures").iterdir()) == [
        f"{name}.svg" for name in ("classes", "cost", "differences", "learning", "seeds")
    ]
    rows = list(csv.reader((out / "tables" / "verdicts.csv").read_text().splitlines()))
    assert rows[1][:2] == ["good against plain", "better"]
    assert float(rows[1][2]) == pytest.approx(0.01, abs=0.002)
    latex = (out / "tables" / "tables.tex").read_text()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 9
    assert not re.search(r"(?<!\\)[&%#_] ?(and|of) ", latex)
    markdown = (out / "tables" / "tables.md").read_text()
    assert "| good against plain | better |" in markdown
    assert "| plain |" in markdown
    for told in (done.output, markdown, latex):
        assert "Not all runs are in: 3 waiting of 21" in " ".join(told.split())
    assert "0.9420" in markdown  # the published number beside ours


def test_runs_without_a_study_file_are_grouped_by_method_and_compared(out: Path, tmp_path: Path) -> None:
    opened = conduct.open_(out)
    folders = {arm: [out / "runs" / row.key for row in opened.rows if row.arm == arm] for arm in ("plain", "good")}
    done = carpus("compare", *folders["plain"], *folders["good"], "--report", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    assert "better" in done.output
    assert (tmp_path / "page.html").is_file()
    own = (tmp_path / "page_tables" / "verdicts.csv").read_text()
    other = carpus("compare", *folders["good"], *folders["plain"], "--report", tmp_path / "other.html")
    assert other.exit_code == 0, other.output
    assert (tmp_path / "page_tables" / "verdicts.csv").read_text() == own
    assert (tmp_path / "other_tables" / "verdicts.csv").read_text() != own
    assert (tmp_path / "other_figures" / "differences.svg").is_file()
    assert not (tmp_path / "tables").exists()
    named = carpus("compare", *(f"{arm}={','.join(map(str, paths))}" for arm, paths in folders.items()))
    assert "good against plain" in " ".join(named.output.split())
    one = carpus("compare", folders["plain"][0], folders["good"][0])
    assert "cannot tell" in one.output


def test_a_page_replaces_nothing_else(out: Path, tmp_path: Path) -> None:
    notes = tmp_path / "small.yaml"
    notes.write_text("arms: {}\n")
    (tmp_path / "page.html").write_text("arms: {}\n")
    for name, told in (("small.yaml", "expected a name that ends in .html"), ("page.html", "it is not replaced")):
        for command in (("compare", tmp_path / "absent", "--report"), ("study", "report", out, "--page")):
            done = carpus(*command, tmp_path / name)
            assert done.exit_code == 2, done.output
            assert told in " ".join(done.output.split())
            assert (tmp_path / name).read_text() == "arms: {}\n"
    done = carpus("study", "report", "--published", "--page", notes)
    assert done.exit_code == 2, done.output
    assert "it is not replaced" in " ".join(done.output.split())
    assert notes.read_text() == "arms: {}\n"
    for _ in range(2):
        assert carpus("study", "report", "--published", "--page", tmp_path / "published.md").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "published.md", "small.yaml"]


def test_a_single_arm_is_no_comparison(out: Path) -> None:
    rows = [row for row in conduct.open_(out).rows if row.arm == "plain"]
    done = carpus("compare", *(out / "runs" / row.key for row in rows))
    assert done.exit_code == 2
    assert "one arm" in done.output


def test_trained_runs_are_compared_with_pictures_of_their_worst_cases(
    trained: Path, dataset: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    done = carpus("compare", f"a={trained}", f"b={trained}", "--data", dataset, "--report", page)
    assert done.exit_code == 0, done.output
    assert page.read_text().count("<img") >= 2
    assert "The lowest mean Dice over all arms" in page.read_text()


def test_a_plan_comes_from_a_pilot_or_from_what_is_assumed(out: Path) -> None:
    assumed = carpus("study", "plan", "--seed-sd", "0.0007", "--patient-sd", "0.006", "--residual-sd", "0")
    assert "at least 9 seeds" in " ".join(assumed.output.split())
    assert "at least 285 patients" in " ".join(assumed.output.split())
    pilot = carpus("study", "plan", out, "--effect", "0.001", "--contrasts", "5")
    assert pilot.exit_code == 0, pilot.output
    assert "SD over patients 0.0006" in pilot.output
    assert "in one of 5 tests" in " ".join(pilot.output.split())


def test_a_plan_takes_contrasts_and_patients_from_its_pilot_or_from_a_study_file(out: Path, study: Path) -> None:
    told = {text: " ".join(carpus("study", "plan", text).output.split()) for text in (str(out), str(study), "3_pseudo")}
    assert "in one of 7 tests" in told[str(out)]
    assert f"measured, over the 5 contrasts of {out} on 30 patients" in told[str(out)]
    assert "smallest difference found on 30" in told[str(out)]
    assert "in one of 7 tests" in told[str(study)]
    assert "found on 144" in told[str(study)]  # it makes no data up
    assert "assumed, as 3_pseudo tells only its 8 tests and 24 test patients" in told["3_pseudo"]
    assert "smallest difference found on 24" in told["3_pseudo"]
    given = carpus("study", "plan", study, "--contrasts", "2", "--patients", "50", "--seed-sd", "0.001").output
    assert "seed as given; patient, residual assumed" in " ".join(given.split())
    assert "in one of 2 tests" in " ".join(given.split())
    assert "found on 50" in " ".join(given.split())


@pytest.mark.parametrize("wrong", ["nowhere", "sheet.csv"])
def test_a_plan_from_something_else_is_refused(wrong: str, tmp_path: Path) -> None:
    (tmp_path / "sheet.csv").touch()
    done = carpus("study", "plan", tmp_path / wrong)
    assert done.exit_code == 2
    told = " ".join(done.output.split())
    assert f"{wrong}: expected a folder of `carpus study run`, run folders" in told
    assert "or one of the studies 1_auxiliary" in told


def test_the_published_numbers_carry_what_they_carry(study: Path) -> None:
    silent = yaml.safe_load(study.read_text())
    for arm in silent["arms"].values():
        arm.pop("published", None)
    (study.parent / "none.yaml").write_text(yaml.safe_dump(silent | {"name": "Silent"}, sort_keys=False))
    found, apart = published.judge([spec.load(path) for path in sorted(spec.STUDIES.glob("*.yaml"))])
    word = {(each.pair.arm, each.pair.against): each.word for each in found}
    assert 0.0005 < apart < 0.002
    assert word["Dice", "BCE"] == word["Jaccard", "BCE"] == word["Tversky", "BCE"] == "likely"
    assert word["Focal", "BCE"] == word["0.5 BCE + 0.5 Dice", "BCE"] == "not carried"
    assert word["+ up layer, 6k more iterations", "DeepLabV3+, GroupNorm, Dice"] == "confounded"
    by_seed_sd = {pair: each.holds_to for each in found if (pair := each.pair).against == "BCE"}
    assert max(by_seed_sd, key=lambda pair: by_seed_sd[pair]).arm == "Dice"
    (listing,) = (each for each in published.listings([], found, apart) if each.title == "The report's contrasts")
    assert "RMS, over all of the report's contrasts that have both numbers" in listing.told
    none = carpus("study", "report", "--published", study.parent / "none.yaml")
    assert none.exit_code == 2
    assert "no contrast of two arms with published numbers" in " ".join(none.output.split())
    done = carpus("study", "report", "--published", "2_losses")
    assert done.exit_code == 0, done.output
    assert "not carried" in " ".join(done.output.split())
