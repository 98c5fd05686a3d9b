"""How much planted damage the selection of pseudo-labels finds, and how much that is good it keeps.

    python -m benchmarks.pseudo_damage [--images 40] [--size 1024] [--fixed]

Three members label phantom hands, all with one small error in common and each with one of its own. In some bones a
damage is planted that two of the three share, so that it wins the vote, or that all three share, as a single submission
would have it. The rules are tuned on other hands, without damage, whose truth is known, unless they are the fixed ones,
as for submissions alone. Pixels are those at 2048.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carpus import ensemble, kernels, metrics
from carpus import labels as label_map
from carpus.labels import BONES
from carpus.phantom import exposure, skeleton
from carpus.phantom.anatomy import Points, Side, Wrist
from carpus.phantom.dataset import moved
from carpus.phantom.hands import outward_normals, within
from carpus.pseudo.criteria import MEASURES
from carpus.pseudo.measures import Floats, measure
from carpus.pseudo.selection import Rules, fixed, select, tune
from carpus.pseudo.sources import Prediction

COMMON_PX, OWN_PX = 1.0, 1.5
"""Standard deviations of the members' usual errors."""

BORDER_PX, BIAS_PX = 10.0, 6.0
"""Standard deviation of a moved border, and width by which a biased threshold makes a bone larger or smaller."""

BONES_HURT = 3
"""Bones of an image that are damaged, where it is not a pair."""

NEIGHBOURS = (
    ("Trapezium", "Trapezoid"),
    ("Capitate", "Hamate"),
    ("Scaphoid", "Lunate"),
    ("Lunate", "Triquetrum"),
    ("Trapezoid", "Capitate"),
)

Outlines = list[Points | None]
Random = np.random.Generator
Damage = Callable[[Outlines, float, Random], list[int]]
"""Changes outlines in place; gives the classes that it changed."""


def borders(outlines: Outlines, pixel: float, rng: Random) -> list[int]:
    hurt = rng.choice(len(BONES), BONES_HURT, replace=False).tolist()
    for k in hurt:
        outlines[k] = moved(_there(outlines[k]), BORDER_PX * pixel, rng)
    return hurt


def thresholds(outlines: Outlines, pixel: float, rng: Random) -> list[int]:
    hurt = rng.choice(len(BONES), BONES_HURT, replace=False).tolist()
    for k in hurt:
        outline = _there(outlines[k])
        outlines[k] = outline + rng.choice([-1, 1]) * BIAS_PX * pixel * outward_normals(outline)
    return hurt


def swapped(outlines: Outlines, pixel: float, rng: Random) -> list[int]:
    first, second = (BONES.index(name) for name in NEIGHBOURS[rng.integers(len(NEIGHBOURS))])
    outlines[first], outlines[second] = outlines[second], outlines[first]
    return [first, second]


def missing(outlines: Outlines, pixel: float, rng: Random) -> list[int]:
    hurt = rng.choice(len(BONES), BONES_HURT, replace=False).tolist()
    for k in hurt:
        outlines[k] = None
    return hurt


KINDS: dict[str, Damage] = {
    "borders moved": borders,
    "carpals swapped": swapped,
    "bones missing": missing,
    "thresholds biased": thresholds,
}


@dataclass(frozen=True)
class Labelled:
    """N hands: measures (N, K, M), Dice (N, K) of the vote, and which bones (N, K) are damaged."""

    measures: Floats
    dice: Floats
    hurt: NDArray[np.bool_]


def labelled(images: int, size: int, seed: int, damage: Damage | None = None, sharing: int = 2) -> Labelled:
    """Hands that three members labelled, some of whose bones are damaged alike in `sharing` of them."""
    rows, dice, hurt = [], [], np.zeros((images, len(BONES)), bool)
    for n in range(images):
        rng = np.random.default_rng([seed, n])
        wrist: Wrist = "bent" if n % 3 == 2 else "straight"
        side: Side = "left" if n % 2 else "right"
        who = skeleton.patient(rng)
        bones = skeleton.pose(rng, who, wrist=wrist, side=side, size=size)
        image = exposure.image(bones, who, size, rng.spawn(1)[0], side=side)
        truth: Outlines = list(bones.outlines)
        pixel = size / 2048
        common: Outlines = [moved(_there(outline), COMMON_PX * pixel, rng) for outline in truth]
        wrong = list(common)
        if damage:
            hurt[n, damage(wrong, pixel, rng)] = True
        members = []
        for m in range(3):
            seen = wrong if m < sharing else common
            own = [outline if outline is None else moved(outline, OWN_PX * pixel, rng) for outline in seen]
            members.append(kernels.encode(drawn(own, size), len(BONES)))
        runs = [ensemble.vote(masks, [1.0] * 3) for masks in zip(*members, strict=True)]
        rows.append(measure(Prediction((size, size), runs, members, image=image), BONES))
        counts = [
            kernels.overlap_runs(a, b)
            for a, b in zip(runs, kernels.encode(drawn(truth, size), len(BONES)), strict=True)
        ]
        dice.append(metrics.dice(np.array(counts)))
    return Labelled(np.array(rows), np.array(dice), hurt)


def drawn(outlines: Sequence[Points | None], size: int) -> label_map.LabelMap:
    shapes = [[] if outline is None else [within(outline, size)] for outline in outlines]
    return kernels.rasterise(shapes, (size, size))


def shares(found: Labelled, rules: Rules) -> tuple[float, float]:
    """The share of the damaged bones that is left out, and of the others that is kept."""
    kept = select(found.measures, rules).kept
    return float((~kept)[found.hurt].mean()), float(kept[~found.hurt].mean())


def _there(outline: Points | None) -> Points:
    assert outline is not None
    return outline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--fixed", action="store_true")
    options = parser.parse_args()
    rules, whence = fixed(len(BONES)), "fixed rules"
    if not options.fixed:
        clean = labelled(options.images, options.size, 0)
        rules, whence = tune(clean.measures, clean.dice), f"rules tuned on {options.images} hands without damage"
    print("| planted | shared by | damaged bones | their Dice | left out | good bones kept |")
    print("|---|---|--:|--:|--:|--:|")
    for number, (name, damage) in enumerate(KINDS.items(), start=1):
        for sharing in (2, 3):
            found = labelled(options.images, options.size, number, damage, sharing)
            caught, kept = shares(found, rules)
            whose = "two of three" if sharing == 2 else "all three"
            dice = found.dice[found.hurt].mean()
            print(f"| {name} | {whose} | {found.hurt.sum()} | {dice:.3f} | {caught:.1%} | {kept:.1%} |", flush=True)
    print(f"{len(MEASURES)} measures, {whence}")


if __name__ == "__main__":
    main()
