"""What each figure of a report says, in one or two sentences made from its numbers."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from carpus.report.charts import number, pose_points
from carpus.report.numbers import BENT_DEG, SPLITS, Curves, Poses, Scores


def overall(scores: Mapping[str, Scores]) -> str:
    """The mean Dice by split, and the step between them."""
    means = {split: of_split.mean() for split, of_split in scores.items()}
    told = [
        f"{value:.4f} on {count(len(scores[split].cases), split)}" for split, value in means.items() if value == value
    ]
    if not told:
        return "No case was scored."
    if len(told) == 1:
        return f"Mean Dice {told[0]}."
    return f"Mean Dice {' and '.join(told)} (difference {difference(means['test'] - means['val'])})."


def by_class(scores: Mapping[str, Scores], groups: Mapping[str, Sequence[str]]) -> str:
    """The hardest classes and groups of the last split: test, or validation without one."""
    split, last = list(scores.items())[-1]
    means = {name: last.mean([name]) for name in last.classes}
    hardest = sorted((name for name in means if math.isfinite(means[name])), key=lambda name: means[name])[:3]
    if not hardest:
        return "No class has a value."
    of_groups = {group: value for group, names in groups.items() if math.isfinite(value := last.mean(names))}
    told = f"Hardest on {SPLITS[split].lower()}: {', '.join(f'{name} {means[name]:.3f}' for name in hardest)}."
    if len(of_groups) > 1:
        told += f" By group: {', '.join(f'{group} {value:.3f}' for group, value in of_groups.items())}."
    absent = [name for name in means if not math.isfinite(means[name])]
    return f"{told} Without a value: {', '.join(absent)}." if absent else told


def learned(curves: Curves) -> str:
    """The best and the last validation, whether it was still rising, and how fast training went."""
    told = []
    at = np.flatnonzero(np.isfinite(curves.val_dice))
    last_step = number(float(curves.step[-1]))
    if len(at):
        best = at[np.argmax(curves.val_dice[at])]
        told.append(f"Best validation Dice {curves.val_dice[best]:.4f} at step {number(float(curves.step[best]))}")
        told[-1] += (
            " (the last one)." if best == at[-1] else f"; {curves.val_dice[at[-1]]:.4f} at the last, {last_step}."
        )
        if best == at[-1] and len(at) > 2 and curves.val_dice[best] - curves.val_dice[at[-2]] > 0.002:
            told.append("It was still rising: longer training may help.")
    else:
        told.append(f"{last_step} steps, never validated.")
    speed, rate = (values[np.isfinite(values)] for values in (curves.images_per_second, curves.learning_rate))
    if len(speed):
        told.append(f"Median speed {np.median(speed):.3g} images a second.")
    if len(rate):
        told.append(f"Highest learning rate {rate.max():.2g}.")
    return " ".join(told)


def by_pose(poses: Poses, scores: Mapping[str, Scores]) -> str:
    """Straight against bent hands, over the cases of all splits."""
    points = np.concatenate(list(pose_points(poses, scores).values()))
    bent = points[:, 0] > BENT_DEG
    if bent.all() or not bent.any():
        return f"All {len(points)} cases are {'bent' if bent.any() else 'straight'}: pose cannot be compared."
    there, here = float(points[bent, 1].mean()), float(points[~bent, 1].mean())
    return (
        f"Mean Dice {here:.4f} of the {(~bent).sum()} straight and {there:.4f} of the {bent.sum()} bent hands "
        f"(axis more than {BENT_DEG:.0f}° from the vertical): {difference(there - here)}."
    )


def pose_shift(poses: Poses) -> str:
    """How many hands of each split are bent."""
    shares = {split: poses.bent(split) for split in SPLITS}
    told = [
        f"{shares[split] * 100:.0f} % of {count(len(poses.of(split)), split)}"
        for split in SPLITS
        if len(poses.of(split))
    ]
    text = f"Bent by more than {BENT_DEG:.0f}°: {', '.join(told)}."
    if shares["test"] > 2 * shares["train"] and shares["test"] - shares["train"] > 0.1:
        text += (
            " The test images are posed otherwise than the training images: expect a gap between validation and test."
        )
    return text


def count(cases: int, split: str) -> str:
    """A number of images and their split, as in "12 test images"."""
    return plural(cases, f"{SPLITS[split].lower()} image")


def plural(things: int, name: str) -> str:
    """A number of things, as in "1 patient" or "12 patients"."""
    return f"{number(things)} {name}{'' if things == 1 else 's'}"


def difference(value: float) -> str:
    """A difference of Dice with its sign."""
    return f"{value:+.4f}".replace("-", "−")
