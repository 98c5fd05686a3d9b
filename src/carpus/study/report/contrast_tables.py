"""The tables of contrasts, every cell as text: HTML, Markdown, CSV, LaTeX and the terminal show the same."""

import math
from collections.abc import Sequence

from carpus.report import Listing
from carpus.report.charts import number
from carpus.report.findings import plural
from carpus.study import planning, stats
from carpus.study.judgement import Judged, Judgement
from carpus.study.pairing import ALL
from carpus.study.report import cells, words


def verdicts(judgement: Judgement) -> Listing:
    """Every contrast with its verdict and what it stands on."""
    rows = _rows(judgement.judged)
    rows += [[str(pair), "no runs", *["–"] * (6 + 2 * len(words.OTHER_METRICS)), ""] for pair in judgement.absent]
    where = "test" if judgement.on_test else "validation"
    about = (
        f"On the {where} patients. Intervals: 95 % each, over patients and seeds. p: of no difference; p equivalent: "
        f"of a difference of {judgement.margin:g} or more; both Holm-corrected over {_family(judgement)}. P(A > B): "
        "the share of pairs of runs in which the first arm is ahead. MDE: the smallest true difference that so many "
        "seeds and patients show with power 0.8 at the corrected level. Would take: seeds an arm × patients that "
        "show, with power 0.8, a true difference as large as the one seen, but no smaller than the margin; out of "
        f"reach: none of up to {planning.MOST_ADVISED} seeds does. {words.MISSED_BONES}"
    )
    if not judgement.on_test:
        about += words.chosen_by_val([name for each in judgement.judged for name in each.pair], judgement.arms)
    if same := [str(each.pair) for each in judgement.judged if each.dice.paired]:
        about += f" Compared seed by seed, because both arms' runs share a training: {'; '.join(same)}."
    return Listing("Verdicts", about, _VERDICTS, rows)


def verdicts_on_val(judgement: Judgement) -> Listing:
    """The contrasts with an arm that learnt from test images, on the patients held out; without rows if none did."""
    about = (
        "Contrasts with an arm that learnt from the test images, on the validation patients, whose images it never "
        f"saw: what it is worth on others. Both p are Holm-corrected over {_family(judgement)}, the rest is as above."
    )
    names = [name for each in judgement.on_val for name in each.pair]
    if judgement.on_val:
        seeds, patients = words.design(judgement.on_val)
        about += f" {seeds} seeds an arm, {patients} patients."
    about += (
        words.chosen_by_val(names, judgement.arms) or " No manifest says that Val chose a checkpoint of these arms."
    )
    return Listing("Verdicts on Val", about, _VERDICTS, _rows(judgement.on_val))


def _family(judgement: Judgement) -> str:
    """What p is corrected for."""
    count = len(judgement.judged) + len(judgement.absent)
    more = judgement.tests - count
    told = f"{judgement.tests} tests, {count} contrasts and {more} of them on Val besides"
    return told if more else plural(count, "contrast")


def short(judgement: Judgement) -> list[Listing]:
    """The verdicts for a terminal, those on Val besides: the five columns that fit, and what it would take."""
    told = (
        "Interval over patients and seeds; p is Holm-corrected. Would take: seeds × patients that find it with power "
        "0.8, if the true difference is the one seen, but no less than the margin."
    )
    on_val = verdicts_on_val(judgement)
    return [_short(verdicts(judgement), told), _short(on_val, on_val.told)]


def _short(whole: Listing, told: str) -> Listing:
    kept = [whole.columns.index(name) for name in ("Contrast", "Verdict", "Dice", "95 %", "p", "Would take")]
    rows = [[row[place] for place in kept] for row in whole.rows]
    return Listing(whole.title, told, [whole.columns[place] for place in kept], rows)


def warnings(judgement: Judgement) -> Listing:
    """Contrasts whose difference may come from something else than what they are named after, or from nothing."""
    rows = [
        [f"{each.pair}{where}", words.flag(flag), flag.why]
        for where, judged in (("", judgement.judged), (", on Val", judgement.on_val))
        for each in judged
        for flag in each.flags
        if not (where and flag.other_cause)  # which is told already
    ]
    about = (
        "Confounded: the difference may be due to this, whatever its verdict; a control arm with the same removes the "
        "doubt. Transductive: one arm learnt from test images; Verdicts on Val says what it is worth on others. "
        "Collapsed: a run has learned nothing."
    )
    return Listing("Flags", about, ["Contrast", "What", "Why"], rows)


def by_class(judgement: Judgement) -> Listing:
    """The difference of every contrast in every group and class."""
    if not judgement.judged:
        return Listing("Differences by class", "", ["Class"], [])
    names = judgement.judged[0].columns
    rows = [
        [name, *(cells.signed(float(each.dice.difference[place])) for each in judgement.judged)]
        for place, name in enumerate(names)
    ]
    columns = ["Class", *(str(each.pair) for each in judgement.judged)]
    return Listing("Differences by class", "Dice of the first arm less that of the second.", columns, rows)


_VERDICTS = (
    "Contrast",
    "Verdict",
    "Dice",
    "95 %",
    "p",
    "p equivalent",
    "P(A > B)",
    "MDE",
    *(head for name, _ in words.OTHER_METRICS.values() for head in (name, f"{name.split(',')[0]}: 95 %")),
    "Would take",
)


def _rows(judged: Sequence[Judged]) -> list[list[str]]:
    """Contrasts as rows of `_VERDICTS`."""
    rows = []
    for each in judged:
        dice = each.dice
        others = [
            cell
            for name, (_, digits) in words.OTHER_METRICS.items()
            for cell in (_other(each.others[name], digits) if name in each.others else ("–", "–"))
        ]
        rows.append(
            [
                str(each.pair),
                words.verdict(each),
                cells.signed(each.difference),
                cells.interval(dice),
                cells.p_value(each.p),
                cells.p_value(each.p_equivalent),
                f"{dice.superiority[ALL]:.2f}",
                cells.four(each.detectable),
                *others,
                _design(each),
            ]
        )
    return rows


def _other(of: stats.Contrast, digits: int) -> tuple[str, str]:
    return cells.signed(float(of.difference[ALL]), digits), cells.interval(of, digits)


def _design(each: Judged) -> str:
    if each.word != "cannot tell":
        return ""
    if math.isnan(each.effect):
        return "–"
    return f"{each.needed.seeds} × {number(each.needed.patients)}" if each.needed else "out of reach"
