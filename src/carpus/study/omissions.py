"""What no verdict of a study is about: test images, seeds, and Val of arms that learnt from test images."""

from collections.abc import Iterator

from carpus.study.judgement import Judgement
from carpus.study.results import VAL
from carpus.study.spec import Cause


def sentences(judgement: Judgement) -> list[str]:
    """All of it, without a full stop."""
    return [
        *_arms_without_test(judgement),
        *_seeds_without_a_fold(judgement),
        *_seeds_of_one_arm(judgement),
        *_pairs_without_val(judgement),
    ]


def _arms_without_test(judgement: Judgement) -> Iterator[str]:
    """Arms that keep the others from being judged on test images."""
    compared = dict.fromkeys(name for each in judgement.judged for name in each.pair)
    untested = [name for name in compared if not judgement.arms[name].has_test]
    if 0 < len(untested) < len(compared):
        told = "no scores on test images, so that every verdict is about the validation patients"
        yield f"{', '.join(untested)}: {told}; `carpus evaluate RUN --data DATA --split test` makes them"


def _seeds_without_a_fold(judgement: Judgement) -> Iterator[str]:
    on_val = dict.fromkeys(name for each in judgement.on_val for name in each.pair)
    for where, splits, names in (("", judgement.splits, judgement.arms), (" on Val", VAL, on_val)):
        for name in names:
            there = judgement.arms[name].scores(splits)
            for seed in judgement.arms[name].seeds:
                if there and seed not in there:
                    yield f"{name}: seed {seed} is left out{where}, because it has not every fold that others have"


def _seeds_of_one_arm(judgement: Judgement) -> Iterator[str]:
    """Of arms that share trainings, those that only one of them has."""
    for each in judgement.judged:
        if each.dice.paired:
            for name, other in (each.pair, reversed(each.pair)):
                there = judgement.arms[other].scores(judgement.splits)
                for seed in judgement.arms[name].scores(judgement.splits):
                    if seed not in there:
                        told = "because the other arm has no run of its training"
                        yield f"{each.pair}: seed {seed} of {name} is left out, {told}"


def _pairs_without_val(judgement: Judgement) -> Iterator[str]:
    on_val = {each.pair for each in judgement.on_val}
    for each in judgement.judged:
        if judgement.on_test and each.flagged(Cause.TRANSDUCTIVE) and each.pair not in on_val:
            told = "not every run has Val, which would say what an arm is worth on images it never saw"
            yield f"{each.pair}: learnt from test images, and {told}"
