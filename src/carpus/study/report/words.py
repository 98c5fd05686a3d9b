"""What tables, figures and sentences of a study call things: splits, metrics, flags, verdicts, designs."""

import math
from collections.abc import Mapping, Sequence

from carpus.report.charts import number
from carpus.study.flags import Flag
from carpus.study.judgement import Judged, Judgement
from carpus.study.report import cells
from carpus.study.results import METRICS, Arm
from carpus.study.spec import Cause, Pair

SPLITS = {"val": "Val", "public": "Public", "private": "Private", "test": "Test"}

OTHER_METRICS = dict(zip(METRICS[1:], (("NSD 2 px", 4), ("HD95, px", 2)), strict=True))
"""Head and digits of every metric but Dice."""

MISSED_BONES = (
    "A bone that only one of prediction and truth has counts 0 in NSD and the image's diagonal in HD95, so that "
    "HD95 tells missed bones more than borders."
)
"""A sentence for every table of these metrics."""


def flag(of: Flag) -> str:
    """What is the matter, in a word or two."""
    return f"confounded: {of.kind}" if of.kind is Cause.BUDGET else str(of.kind)


def verdict(each: Judged) -> str:
    """The word, and the flags after it."""
    return ", ".join([each.word, *map(flag, each.flags)])


def told_on_val(judgement: Judgement, pair: Pair) -> str:
    """The verdict on Val of a contrast with an arm that learnt from the test images; empty if none did."""
    for each in judgement.on_val:
        if each.pair == pair:
            interval = f" ({cells.interval(each.dice)})" if each.interval else ""
            return (
                f"on Val, whose images neither learnt from: {verdict(each)}, {cells.signed(each.difference)}{interval}"
            )
    return ""


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


def design(judged: Sequence[Judged]) -> tuple[str, str]:
    """How many seeds an arm and how many patients contrasts stand on, as 3, or 3–5 where they differ."""
    seeds = {count for each in judged for count in each.dice.seeds}
    return cells.extremes(seeds), cells.extremes({each.dice.patients for each in judged})


def chosen_by_val(names: Sequence[str], arms: Mapping[str, Arm]) -> str:
    """The arms whose checkpoint the validation patients chose, as a sentence after others; empty if none."""
    chosen = [
        name
        for name in dict.fromkeys(names)
        if any(of.manifest.get("weights", {}).get("chosen_by_validation") for of in arms[name].runs)
    ]
    return f" Val chose the checkpoint of {', '.join(chosen)} and is optimistic for them." if chosen else ""
