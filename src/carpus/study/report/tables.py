"""The tables of a study, every cell as text: HTML, Markdown, CSV, LaTeX and the terminal show the same."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from carpus.pseudo import provenance
from carpus.report import Listing
from carpus.report.charts import number
from carpus.study import budget, planning, stats
from carpus.study.judge import Judged, Judgement
from carpus.study.results import ALL, METRICS, TEST, Arm
from carpus.study.spec import Pair, Published, Study

NAMES = {"val": "Val", "public": "Public", "private": "Private", "test": "Test"}


def scores(judgement: Judgement, study: Study | None = None) -> Listing:
    """Dice of every arm on every split, mean and SD over seeds, next to the report's numbers."""
    arms = judgement.arms
    splits = [split for split in NAMES if any(split in arm.splits() for arm in arms.values())]
    published = {name: study.arms[name].published for name in arms if study and name in study.arms}
    told = [
        split for split in ("val", "public", "private") if any(getattr(of, split, None) for of in published.values())
    ]
    rows = []
    for name, arm in arms.items():
        row = [name, *(_over_seeds(arm.mean([split])) for split in splits)]
        numbers = published.get(name) or Published()
        row += [_four(getattr(numbers, split)) for split in told]
        by_seed = arm.scores(judgement.splits)
        rows.append([*row, str(len(by_seed)), str(len(next(iter(by_seed.values()))) if by_seed else 0)])
    columns = ["Arm", *(NAMES[split] for split in splits), *(f"Report: {NAMES[split]}" for split in told)]
    about = "Mean Dice over classes, images of a patient, and patients; ± is the standard deviation over seeds."
    about += chosen_by_val(list(arms), arms)
    if told:
        about += " The report's numbers are of one run each, and of other images."
    return Listing("Scores", about, [*columns, "Seeds", "Patients"], rows)


def verdicts(judgement: Judgement) -> Listing:
    """Every contrast with its verdict and what it stands on."""
    rows = _rows(judgement.judged)
    rows += [[str(pair), "no runs", *["–"] * (6 + 2 * len(_OTHERS)), ""] for pair in judgement.absent]
    where = "test" if set(judgement.splits) & set(TEST) else "validation"
    about = (
        f"On the {where} patients. Intervals: 95 % each, over patients and seeds. p: of no difference; p equivalent: "
        f"of a difference of {judgement.margin:g} or more; both Holm-corrected over {_family(judgement)}. P(A > B): "
        "the share of pairs of runs in which the first arm is ahead. MDE: the smallest true difference that so many "
        "seeds and patients show with power 0.8 at the corrected level. Would take: seeds an arm × patients that "
        "show, with power 0.8, a true difference as large as the one seen, but no smaller than the margin; out of "
        f"reach: none of up to {planning.MOST_ADVISED} seeds does. {_MISSING}"
    )
    if where == "validation":
        about += chosen_by_val([name for each in judgement.judged for name in each.pair], judgement.arms)
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
        seeds, patients = design(judgement.on_val)
        about += f" {seeds} seeds an arm, {patients} patients."
    about += chosen_by_val(names, judgement.arms) or " No manifest says that Val chose a checkpoint of these arms."
    return Listing("Verdicts on Val", about, _VERDICTS, _rows(judgement.on_val))


def design(judged: Sequence[Judged]) -> tuple[str, str]:
    """How many seeds an arm and how many patients contrasts stand on, as 3, or 3–5 where they differ."""
    seeds = {count for each in judged for count in each.dice.seeds}
    return _range(seeds), _range({each.dice.patients for each in judged})


def _range(values: Collection[int]) -> str:
    if not values:
        return "–"
    return "–".join(dict.fromkeys(number(end) for end in (min(values), max(values))))


def chosen_by_val(names: Sequence[str], arms: Mapping[str, Arm]) -> str:
    """The arms whose checkpoint the validation patients chose, as a sentence after others; empty if none."""
    chosen = [
        name
        for name in dict.fromkeys(names)
        if any(of.manifest.get("weights", {}).get("chosen_by_validation") for of in arms[name].runs)
    ]
    return f" Val chose the checkpoint of {', '.join(chosen)} and is optimistic for them." if chosen else ""


def _family(judgement: Judgement) -> str:
    """What p is corrected for."""
    count = len(judgement.judged) + len(judgement.absent)
    more = judgement.tests - count
    told = f"{judgement.tests} tests, {count} contrasts and {more} of them on Val besides"
    return told if more else f"{count} contrasts"


def _rows(judged: Sequence[Judged]) -> list[list[str]]:
    """Contrasts as rows of `_VERDICTS`."""
    rows = []
    for each in judged:
        dice = each.dice
        others = [
            cell
            for name, (_, digits) in _OTHERS.items()
            for cell in (_other(each.others[name], digits) if name in each.others else ("–", "–"))
        ]
        rows.append(
            [
                str(each.pair),
                verdict(each),
                signed(each.difference),
                _interval(dice),
                p_value(each.p),
                p_value(each.p_equivalent),
                f"{dice.superiority[ALL]:.2f}",
                _four(each.detectable),
                *others,
                _design(each),
            ]
        )
    return rows


_OTHERS = dict(zip(METRICS[1:], (("NSD 2 px", 4), ("HD95, px", 2)), strict=True))
"""Head and digits of every metric but Dice."""

_MISSING = (
    "A bone that only one of prediction and truth has counts 0 in NSD and the image's diagonal in HD95, so that "
    "HD95 tells missed bones more than borders."
)

_VERDICTS = (
    "Contrast",
    "Verdict",
    "Dice",
    "95 %",
    "p",
    "p equivalent",
    "P(A > B)",
    "MDE",
    *(head for name, _ in _OTHERS.values() for head in (name, f"{name.split(',')[0]}: 95 %")),
    "Would take",
)


def borders(judgement: Judgement) -> Listing:
    """Every arm by other metrics, its groups of classes and its worst class."""
    arms, splits = judgement.arms, judgement.splits
    groups = list(next(iter(arms.values())).classes.groups) if arms else []
    rows = []
    for name, arm in arms.items():
        tables = list(arm.scores(splits).values())
        if not tables:
            continue
        by_class = np.mean([table.to_numpy(np.float64).mean(axis=0) for table in tables], axis=0)
        worst = int(np.argmin(by_class))
        of_groups = [
            _four(float(np.mean([by_class[arm.classes.index(member)] for member in arm.classes.groups[group]])))
            for group in groups
        ]
        other = [_over_seeds(arm.mean(splits, metric), digits) for metric, (_, digits) in _OTHERS.items()]
        rows.append([name, *other, *of_groups, arm.classes.names[worst], _four(float(by_class[worst]))])
    columns = [
        "Arm",
        *(name for name, _ in _OTHERS.values()),
        *(group.capitalize() for group in groups),
        "Worst class",
        "its Dice",
    ]
    about = (
        "NSD: the share of the border within 2 pixels of the other; HD95: the 95th percentile of border distances. "
        f"{_MISSING}"
    )
    return Listing("Borders, groups and the worst class", about, columns, rows)


def labels(judgement: Judgement) -> Listing:
    """What was known of pseudo-labels before a run learnt from them; without rows where none did."""
    rows = []
    for name, arm in judgement.arms.items():
        for run in arm.runs:
            if pseudo := run.manifest.get("pseudo"):
                quality, selection = pseudo.get("quality"), not run.settings or run.settings.data.pseudo.selection
                shares = [pseudo.get("kept"), quality and quality["kept"]] if selection else [1.0, 1.0]
                kept = ["–" if share is None else f"{share:.0%}" for share in shares]
                rows.append([name, str(run.seed), *kept, provenance.advice(quality, selection=selection)])
    about = (
        "Kept: of the labels that were learnt from, and of those out of fold, whose quality is known. The rest counts "
        "neither as bone nor as background; without a selection all count."
    )
    columns = ["Arm", "Seed", "Kept", "Kept out of fold", "Measured"]
    return Listing("Pseudo-labels, before they were learnt from", about, columns, rows)


def costs(judgement: Judgement) -> Listing:
    """What every arm was given and what it took, means over its runs."""
    rows = []
    for name, arm in judgement.arms.items():
        given = budget.of(arm)
        peak = [max(of.values()) for outcome in arm.runs if (of := outcome.manifest.get("peak_mib_by_phase"))]
        rows.append(
            [
                name,
                _count(given.parameters / 1e6, " M", 1),
                _count(given.steps),
                _count(given.images_a_step),
                _count(given.image_size_px),
                _count(given.training_patients),
                duration(arm.seconds),
                _count(arm.fact("images_per_second"), "", 1),
                _count(float(np.mean(peak)) if peak else math.nan, " MiB"),
                device(arm),
            ]
        )
    columns = ["Arm", "Parameters", "Steps", "Images a step", "Side, px", "Patients", "Time a run", "Images/s", "Peak"]
    about = (
        "Steps and time are all that made the weights, those of the runs that an arm started from included; those of "
        "the teachers of pseudo-labels are not. Time is by the wall, with validations, on the device named, which may "
        "have been shared."
    )
    return Listing("Cost", about, [*columns, "Device"], rows)


def by_class(judgement: Judgement) -> Listing:
    """The difference of every contrast in every group and class."""
    if not judgement.judged:
        return Listing("Differences by class", "", ["Class"], [])
    names = judgement.judged[0].columns
    rows = [
        [name, *(signed(float(each.dice.difference[place])) for each in judgement.judged)]
        for place, name in enumerate(names)
    ]
    columns = ["Class", *(str(each.pair) for each in judgement.judged)]
    return Listing("Differences by class", "Dice of the first arm less that of the second.", columns, rows)


def warnings(judgement: Judgement) -> Listing:
    """Contrasts whose difference may come from something else than what they are named after, or from nothing."""
    rows = [
        [str(each.pair), kind if kind != "budget" else "confounded: budget", why]
        for each in judgement.judged
        for kind, why in each.flags.items()
    ]
    rows += [
        [f"{each.pair}, on Val", kind, why]
        for each in judgement.on_val
        for kind, why in each.flags.items()
        if kind != "budget"
    ]
    about = (
        "Confounded: the difference may be due to this, whatever its verdict; a control arm with the same removes the "
        "doubt. Transductive: one arm learnt from test images; Verdicts on Val says what it is worth on others. "
        "Collapsed: a run has learned nothing."
    )
    return Listing("Flags", about, ["Contrast", "What", "Why"], rows)


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


def told_on_val(judgement: Judgement, pair: Pair) -> str:
    """The verdict on Val of a contrast with an arm that learnt from the test images; empty if none did."""
    for each in judgement.on_val:
        if each.pair == pair:
            interval = f" ({_interval(each.dice)})" if each.interval else ""
            return f"on Val, whose images neither learnt from: {verdict(each)}, {signed(each.difference)}{interval}"
    return ""


def verdict(each: Judged) -> str:
    """The word, and the flags after it."""
    kinds = ["confounded: budget" if kind == "budget" else kind for kind in each.flags]
    return ", ".join([each.word, *kinds])


def needed(each: Judged) -> str:
    """What would decide an undecided contrast, as a sentence; empty for a decided one."""
    if each.word != "cannot tell":
        return ""
    if math.isnan(each.effect):
        return "there is nothing to judge by"
    design = each.needed
    basis = f", going by {each.assumed}" if each.assumed else ""
    if design is None:
        return f"no design within reach would show a true {each.effect:.4f}{basis}"
    many = f"{design.seeds} seeds and {number(design.patients)} patients"
    return f"{many} would show a true {each.effect:.4f} with power 0.8{basis}"


def _design(each: Judged) -> str:
    if each.word != "cannot tell":
        return ""
    if math.isnan(each.effect):
        return "–"
    return f"{each.needed.seeds} × {number(each.needed.patients)}" if each.needed else "out of reach"


def p_value(p: float) -> str:
    """With three digits; "–" where there is none."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """As "42 s", "3.5 min" or "7.2 h"."""
    if math.isnan(seconds):
        return "–"
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.1f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def device(arm: Arm) -> str:
    """Where the runs were trained, each device once."""
    names = []
    for outcome in arm.runs:
        machine = outcome.manifest.get("environment", {})
        used = outcome.manifest.get("device", "")
        gpus = machine.get("gpu") if "cuda" in str(used) or not used else None
        names.append(gpus[0] if gpus else f"CPU, {machine.get('threads', '?')} threads" if machine else "–")
    return ", ".join(dict.fromkeys(names))


def _interval(of: stats.Contrast, digits: int = 4) -> str:
    low, high = float(of.low[ALL]), float(of.high[ALL])
    return f"{signed(low, digits)} to {signed(high, digits)}" if math.isfinite(low) else "–"


def _other(of: stats.Contrast, digits: int) -> tuple[str, str]:
    return signed(float(of.difference[ALL]), digits), _interval(of, digits)


def _over_seeds(values: Sequence[float] | np.ndarray, digits: int = 4) -> str:
    if not len(values):
        return "–"
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean


def signed(value: float, digits: int = 4) -> str:
    """With its sign, a real minus; "–" where there is none."""
    return f"{value:+.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"


def _four(value: float | None) -> str:
    return f"{value:.4f}" if value is not None and math.isfinite(value) else "–"


def _count(value: float, unit: str = "", digits: int = 0) -> str:
    return f"{value:,.{digits}f}{unit}".replace(",", "\u202f") if math.isfinite(value) else "–"
