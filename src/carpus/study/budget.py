"""What arms were given: a difference of it may be what a difference of scores comes from."""

import math
from dataclasses import astuple, dataclass

import numpy as np

from carpus.study.results import Arm, Outcome

SAME_PARAMETERS = 0.02
"""Networks whose numbers of parameters differ by a smaller share count as equally large."""

_SHOWN = 0.5
"""Means over runs are shown as whole numbers; what differs by less would read as the same."""

_COMPARED = {
    "steps": ("steps", 0.0),
    "parameters": ("parameters", SAME_PARAMETERS),
    "images_a_step": ("images a step", 0.0),
    "image_size_px": ("image size", 0.0),
    "label_size_px": ("label size", 0.0),
    "training_patients": ("training patients", 0.0),
}
"""By field, what it is called and the share that it may differ by."""


@dataclass(frozen=True)
class Budget:
    """What an arm was given, means over its runs; NaN where a run does not tell.

    Args:
        steps: behind its weights, those of the runs that it started from included.
        parameters: of what predicts.
        images_a_step: batch size times accumulation.
        image_size_px, label_size_px: sides of what the network sees and of what the loss sees.
        training_patients: that it learnt from.
    """

    steps: float
    parameters: float
    images_a_step: float
    image_size_px: float
    label_size_px: float
    training_patients: float


def of(arm: Arm) -> Budget:
    """The mean over the runs of an arm."""
    return Budget(*np.mean([astuple(_of_run(outcome)) for outcome in arm.runs], axis=0).tolist())


def _of_run(outcome: Outcome) -> Budget:
    settings, manifest = outcome.settings, outcome.manifest
    return Budget(
        steps=outcome.lineage.steps,
        parameters=manifest.get("parameters", math.nan),
        images_a_step=settings.train.batch_size * settings.train.accumulate if settings else math.nan,
        image_size_px=settings.data.image_size if settings else math.nan,
        label_size_px=settings.data.label_size or settings.data.image_size if settings else math.nan,
        training_patients=len(manifest["train_patients"]) if "train_patients" in manifest else math.nan,
    )


def differences(one: Budget, other: Budget) -> list[str]:
    """What two budgets differ in, with the numbers of both; what either does not tell is not compared."""
    found = []
    for name, (label, share) in _COMPARED.items():
        ours, theirs = getattr(one, name), getattr(other, name)
        if abs(ours - theirs) > max(_SHOWN, share * theirs):
            found.append(f"{label} {ours:,.0f} against {theirs:,.0f}")
    return found
