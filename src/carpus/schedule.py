"""The learning rate as a pure function of the step, so that a resumed or a longer run needs no memory of it."""

import math
from collections.abc import Callable

from carpus.config import Train
from carpus.errors import ConfigError

SHAPES: dict[str, Callable[[float, float], float]] = {
    "cosine": lambda part, power: 0.5 * (1 + math.cos(math.pi * part)),
    "poly": lambda part, power: (1 - part) ** power,
    "constant": lambda part, power: 1.0,
}
"""(part of the way after the warm-up, 0..1; power) -> share of the peak rate."""


def rate(step: int, options: Train) -> float:
    """The rate of `step`, counted from 0: a linear rise over the warm-up, then the schedule's fall.

    cosine and poly end one step before 0. A schedule that `--continue` restarted begins at `train.schedule_start`;
    what lies before it belongs to an earlier run and has no rate here.

    Raises:
        ConfigError: a horizon that ends before the last step.
    """
    end = options.horizon or options.steps
    if end < options.steps:
        raise ConfigError(
            f"train.horizon: {end} ends before the last of the {options.steps} steps; the rate would be 0"
        )
    whole, done = end - options.schedule_start, step - options.schedule_start
    rise = options.warmup * whole
    if done < rise:
        return options.learning_rate * (done + 1) / (rise + 1)
    return options.learning_rate * SHAPES[options.schedule]((done - rise) / (whole - rise), options.power)


def progress(step: int, options: Train) -> float:
    """How far `step` is from the schedule's start to its horizon: 0..1, for what changes in a straight line."""
    whole = (options.horizon or options.steps) - options.schedule_start
    return (step - options.schedule_start) / max(1, whole - 1)


def lengthened(options: Train, done: int, steps: int, *, fading: bool = False) -> tuple[Train, bool]:
    """The options of a run that goes on from `done` steps to `steps`, and whether its schedule is that of one run.

    It is that where both give the same rate to every step that is done: constant without a warm-up, or any shape whose
    `train.horizon` was set. Otherwise the schedule starts anew, warm-up included, at the first new step.

    Args:
        options: of the run that is there.
        done: its steps.
        steps: in all.
        fading: whether anything else changes with `progress`, as an auxiliary loss may.

    Raises:
        ConfigError: not more steps than there are, or a horizon that ends before them.
    """
    if steps <= done:
        raise ConfigError(f"--steps {steps}: the run has {done} steps already; ask for more")
    longer = options.model_copy(update={"steps": steps})
    same = all(rate(step, longer) == rate(step, options) for step in range(options.schedule_start, done))
    if same and (options.horizon or not fading):
        return longer, True
    return longer.model_copy(update={"schedule_start": done}), False
