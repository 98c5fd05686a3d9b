"""``python -m benchmarks.statistics [--studies N]``: what the statistics of studies do to studies of known truth.

Each number is a share of N simulated studies of 144 patients, in percent. The table goes into docs/studies.md, between
``<!-- statistics -->`` and ``<!-- /statistics -->``.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from carpus.study import stats
from carpus.study.planning import Design, power
from carpus.study.stats import Spread

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from study.planted import scores

DOCUMENT = Path(__file__).parents[1] / "docs" / "studies.md"
PATIENTS = 144
SEEDS = (2, 3, 5, 8)
SPREADS = (
    Spread(0.004, 0.0005, 0.002),
    Spread(0.006, 0.0007, 0.003),
    Spread(0.004, 0.0015, 0.003),
    Spread(0.008, 0.0005, 0.006),
)
USUAL = SPREADS[1]

Values = NDArray[np.float64]


def ours(a: Values, b: Values) -> NDArray[np.bool_]:
    return stats.contrast(a, b, resamples=2000).p < stats.LEVEL


def crossed(a: Values, b: Values) -> NDArray[np.bool_]:
    """The plain bootstrap over patients and seeds, percentiles, without a correction."""
    draw, resamples = np.random.default_rng(0), 1000
    weights = draw.multinomial(PATIENTS, np.full(PATIENTS, 1 / PATIENTS), resamples) / PATIENTS
    found = np.zeros((resamples, a.shape[2]))
    for arm, sign in ((a, 1), (b, -1)):
        of_seeds = draw.multinomial(len(arm), np.full(len(arm), 1 / len(arm)), resamples) / len(arm)
        for times, seed in zip(of_seeds.T, arm, strict=True):
            found += sign * times[:, None] * (weights @ seed)
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    return (low > 0) | (high < 0)


def satterthwaite(a: Values, b: Values) -> NDArray[np.bool_]:
    """A t-test with the degrees of freedom of Satterthwaite, the seeds' variance pooled."""
    patients, runs, both = parts(a, b)
    total = np.maximum(patients + runs - both, np.maximum(patients, runs))
    freedom = total**2 / (patients**2 / (PATIENTS - 1) + runs**2 / (2 * len(a) - 2))
    limit = special.stdtrit(freedom, 1 - stats.LEVEL / 2)
    return np.abs((a - b).mean(axis=(0, 1))) > limit * np.sqrt(total)


def pooled(a: Values, b: Values) -> NDArray[np.bool_]:
    """As ours, but with one variance for the seeds of both arms."""
    patients, runs, both = parts(a, b)
    q, t = special.stdtrit(PATIENTS - 1, 1 - stats.LEVEL / 2), special.stdtrit(2 * len(a) - 2, 1 - stats.LEVEL / 2)
    square = np.maximum(q**2 * patients + t**2 * runs - q * t * both, q**2 * patients)
    return (a - b).mean(axis=(0, 1)) ** 2 > square


def by_seed(a: Values, b: Values) -> NDArray[np.bool_]:
    """As ours, but with seeds paired: the difference of every seed, with one degree of freedom less than seeds."""
    patients, _, both = parts(a, b)
    runs = (a - b).mean(axis=1).var(axis=0, ddof=1) / len(a)
    q, t = special.stdtrit(PATIENTS - 1, 1 - stats.LEVEL / 2), special.stdtrit(len(a) - 1, 1 - stats.LEVEL / 2)
    square = np.maximum(q**2 * patients + t**2 * runs - q * t * both, q**2 * patients)
    return (a - b).mean(axis=(0, 1)) ** 2 > square


def patients_only(a: Values, b: Values) -> NDArray[np.bool_]:
    """One run an arm and a t-test over its patients, as is usual."""
    difference = a[0] - b[0]
    limit = special.stdtrit(PATIENTS - 1, 1 - stats.LEVEL / 2)
    return np.abs(difference.mean(axis=0)) > limit * difference.std(axis=0, ddof=1) / np.sqrt(PATIENTS)


def parts(a: Values, b: Values) -> tuple[Values, Values, Values]:
    """The variances V_P, V_S and V_E of `stats`."""
    seeds = len(a)
    patients = (a.mean(axis=0) - b.mean(axis=0)).var(axis=0, ddof=1) / PATIENTS
    runs = sum(arm.mean(axis=1).var(axis=0, ddof=1) for arm in (a, b)) / seeds
    both = np.zeros_like(patients)
    for arm in (a, b):
        rest = arm - arm.mean(axis=0) - arm.mean(axis=1, keepdims=True) + arm.mean(axis=(0, 1))
        both += (rest**2).sum(axis=(0, 1)) / ((seeds - 1) * (PATIENTS - 1)) / (seeds * PATIENTS)
    return patients, np.asarray(runs), both


def share(
    test: Callable[[Values, Values], NDArray[np.bool_]],
    spread: Spread,
    seeds: int,
    studies: int,
    *,
    effect: float = 0.0,
    correlation: float = 0.0,
    times: float = 1.0,
) -> float:
    found = []
    for part in range(-(-studies // 2000)):
        a, b = scores(
            spread,
            seeds=seeds,
            patients=PATIENTS,
            columns=min(2000, studies - 2000 * part),
            effect=effect,
            random=1000 * seeds + part,
            correlation=correlation,
            times=times,
        )
        found.append(test(a, b))
    return float(np.concatenate(found).mean())


def tables(studies: int) -> str:
    error = 196 * np.sqrt(0.05 * 0.95 / studies)
    lines = [
        f"{studies:,} simulated studies of {PATIENTS} patients a number, so that 5.0 can be {5 - error:.1f} to "
        f"{5 + error:.1f} by chance.",
        "",
        "False positives, %, by number of seeds:",
        "",
        "| SD: patients, seeds, rest | test | 2 | 3 | 5 | 8 |",
        "|---|---|--:|--:|--:|--:|",
    ]
    tests = {
        "**Carpus**": ours,
        "crossed bootstrap": crossed,
        "Satterthwaite": satterthwaite,
        "seeds paired": by_seed,
        "one run, patients": patients_only,
    }
    for spread in SPREADS:
        name = f"{spread.patient:g}, {spread.seed:g}, {spread.residual:g}"
        for test, of in tests.items():
            if spread is USUAL or of is ours:
                row = [f"{100 * share(of, spread, seeds, studies):.1f}" for seeds in SEEDS]
                lines.append(f"| {name} | {test} | {' | '.join(row)} |")
                print(lines[-1], flush=True)
    lines += [
        "",
        "False positives, %, with the second spread, where one arm's seeds scatter more than the other's:",
        "",
    ]
    lines += ["| times as far | | 2 | 3 | 5 | 8 |", "|--:|---|--:|--:|--:|--:|"]
    for times in (3, 10):
        for name, of in (("**Carpus**", ours), ("seeds pooled", pooled)):
            row = [f"{100 * share(of, USUAL, seeds, studies, times=times):.1f}" for seeds in SEEDS]
            lines.append(f"| {times} | {name} | {' | '.join(row)} |")
            print(lines[-1], flush=True)
    lines += ["", "A true difference, with the second of these spreads: coverage of the interval, and power, %.", ""]
    lines += ["| difference | | 2 | 3 | 5 | 8 |", "|---|---|--:|--:|--:|--:|"]
    for effect in (0.001, 0.003):

        def covered(a: Values, b: Values, effect: float = effect) -> NDArray[np.bool_]:
            found = stats.contrast(a, b, resamples=2000)
            return (found.low <= effect) & (effect <= found.high)

        def seen(a: Values, b: Values) -> NDArray[np.bool_]:
            return stats.contrast(a, b, resamples=2000).low > 0

        shares = {
            "coverage": [share(covered, USUAL, seeds, studies, effect=effect) for seeds in SEEDS],
            "power": [share(seen, USUAL, seeds, studies, effect=effect) for seeds in SEEDS],
            "power as planned": [power(effect, Design(seeds, PATIENTS), USUAL) for seeds in SEEDS],
        }
        for name, of in shares.items():
            lines.append(f"| {effect:g} | {name} | {' | '.join(f'{100 * value:.1f}' for value in of)} |")
            print(lines[-1], flush=True)
    lines += ["", "Pairing by seed: power for 0.003 with the third spread, where the seeds of two arms correlate.", ""]
    lines += ["| correlation | | 2 | 3 | 5 | 8 |", "|---|---|--:|--:|--:|--:|"]
    for correlation in (0.0, 0.3, 0.6):
        for name, of in (("not paired", ours), ("paired", by_seed)):
            row = [
                f"{100 * share(of, SPREADS[2], seeds, studies, effect=0.003, correlation=correlation):.1f}"
                for seeds in SEEDS
            ]
            lines.append(f"| {correlation:g} | {name} | {' | '.join(row)} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.statistics", description=__doc__)
    parser.add_argument("--studies", type=int, default=10_000)
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = tables(parser.parse_args().studies)
    marked = re.compile(r"(<!-- statistics -->\n).*?(<!-- /statistics -->)", re.DOTALL)
    DOCUMENT.write_text(marked.sub(lambda found: f"{found[1]}{rows}\n{found[2]}", text), encoding="utf-8")


if __name__ == "__main__":
    main()
