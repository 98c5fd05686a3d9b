"""What a plan starts from: a finished study, some runs, a study that is still to be run, or what is assumed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from carpus.errors import ConfigError, warn
from carpus.labels import BONES
from carpus.report.findings import plural
from carpus.study import conduct, gather, judge, planning, spec, tasks
from carpus.study.results import Arm
from carpus.study.spec import Pair, Study
from carpus.study.stats import Spread

PATIENTS = 144
"""Of the competition's test, where nothing else is known."""


@dataclass(frozen=True)
class Pilot:
    """What is known beforehand.

    Args:
        spread: the standard deviations.
        basis: where they are from, in words.
        tests: how many, for which p will be corrected: contrasts, and some of them on Val besides.
        patients: that score.
    """

    spread: Spread
    basis: str
    tests: int
    patients: int


def read(given: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Pilot:
    """A pilot from a command line.

    Args:
        given: a folder of `carpus study run`; run folders and folders of runs, as in `gather.of_paths`; or a study
            file, or the name of one that comes along, which tells tests and patients, but no spread; none of these
            for what is assumed.
        progress: called with (runs read, runs in all).

    Raises:
        ConfigError: something else, or runs without two seeds an arm and five patients.
        DataError: runs that cannot be read.
    """
    if not given:
        return Pilot(planning.ASSUMED, "assumed, of a competition-sized study; a pilot tells better", 1, PATIENTS)
    if len(given) == 1 and _is_study(given[0]):
        return _ahead(given[0])
    for text in given:
        for path in gather.named_paths(text)[1]:
            if not path.is_dir():
                raise ConfigError(
                    f"study plan: {path}: expected a folder of `carpus study run`, run folders as of `carpus compare` "
                    f"(RUN, or NAME=RUN,RUN), a study file, or one of the studies {', '.join(spec.names())}"
                )
    if len(given) == 1 and (Path(given[0]) / tasks.INDEX).is_file():
        opened = conduct.open_(Path(given[0]))
        arms, notes = gather.of_study(opened, progress)
        for note in notes:
            warn(note)
        return _measured(given[0], arms, opened.study.contrasts, opened.study)
    arms = gather.of_paths(given, classes=BONES, progress=progress)
    control, *others = arms
    if not others:
        raise ConfigError(f"study plan: {control}: is one arm; a pilot compares two or more")
    return _measured(given[0], arms, [Pair(name, control) for name in others])


def _is_study(text: str) -> bool:
    path = Path(text)
    if path.is_file():
        return path.suffix in (".yaml", ".yml")
    return text in spec.names() and not path.is_dir()


def _ahead(text: str) -> Pilot:
    """A study that is still to be run: of its made-up patients, where it has any."""
    study = spec.load(text)
    phantom = next((scale.phantom for scale in study.scales.values() if scale.phantom), None)
    patients = phantom.test_patients if phantom else PATIENTS
    count = plural(judge.planned_tests(study), "test")
    basis = f"assumed, as {text} tells only its {count} and {patients} test patients; a pilot tells better"
    if phantom is None:
        basis = f"assumed, as {text} tells only its {count}; a pilot tells better"
    return Pilot(planning.ASSUMED, basis, judge.planned_tests(study), patients)


def _measured(where: str, arms: Mapping[str, Arm], pairs: Sequence[Pair], study: Study | None = None) -> Pilot:
    judgement = judge.judge(arms, pairs, study=study)
    spread = planning.pooled([of for each in judgement.judged if (of := each.dice.spread()) is not None])
    if spread is None:
        raise ConfigError(
            f"{where}: no contrast with two seeds an arm and five patients; without a pilot, give --patient-sd, "
            "--seed-sd and --residual-sd"
        )
    patients = max(each.dice.patients for each in judgement.judged)
    basis = f"measured, over the {plural(len(judgement.judged), 'contrast')} of {where} on {patients} patients"
    return Pilot(spread, basis, judgement.tests, patients)
