"""What is done to a prediction after the networks: weights, temperatures, thresholds, repairs of shape, class by class.

Nothing is done unless it is asked for: `carpus calibrate` finds out what helps, and writes it to a JSON file that
`carpus predict --calibration` reads. Dimension key: M members, R runs, K classes, H rows, W columns.

::

    {"members": [[SHA-256 of the weights of a run, ...], ...],
     "options": {"canvas": null, "blend": "probabilities", ...},
     "classes": {"Lunate": {"threshold": 0.42, "temperature": 1.3, "largest": true, "fill": true, "least": 0.004,
                            "weights": [2, 1]}, ...}}
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carpus import labels as label_map
from carpus.errors import ConfigError, DataError, warn
from carpus.formats import files
from carpus.labels import Classes, LabelMap, Mask


@dataclass(frozen=True)
class Step:
    """What is done to one class; the defaults do nothing.

    Args:
        threshold: the class is where its probability is above this, 0 to 1.
        temperature: the logit of every run is divided by this before it becomes a probability, above 0.
        largest: keep only the largest of several 8-connected components.
        fill: fill holes.
        least: drop components of fewer pixels than this share of all bones' pixels in the image, 0 up to below 1.
        weights: what each member of an ensemble counts, 0 or more and not all 0; without any, all count alike.
    """

    threshold: float = 0.5
    temperature: float = 1.0
    largest: bool = False
    fill: bool = False
    least: float = 0.0
    weights: tuple[float, ...] = ()

    @property
    def shapes(self) -> bool:
        """Whether it changes the shape of a mask."""
        return self.largest or self.fill or self.least > 0


class Calibration:
    """A `Step` for every class of a class list.

    Args:
        steps: by class name; those that are left out do nothing.
        classes: the class list.
        members: of every member of the ensemble it was fitted on, the SHA-256 of its runs' weights; the runs of a
            member are the folds of one recipe.
        options: how images were shown to them, see `predict.Options.facts`.
        source: what an error shall name.
        fitted_on: the patients whose labels it was fitted on; None where nobody knows.

    Raises:
        DataError: a class that is not in the list, or a value out of its range.
    """

    def __init__(
        self,
        steps: Mapping[str, Step],
        classes: Classes,
        members: Sequence[Sequence[str]] = (),
        options: Mapping[str, Any] | None = None,
        source: str = "calibration",
        fitted_on: Sequence[str] | None = None,
    ) -> None:
        for name, step in steps.items():
            if name not in classes:
                raise DataError(f"{source}: classes: unknown class {name!r}")
            wrong = _wrong(step, len(members))
            if wrong:
                raise DataError(f"{source}: classes.{name}.{wrong}")
        self.classes, self.members, self._source = classes, tuple(tuple(of) for of in members), source
        self.options = dict(options or {})
        self.steps = tuple(steps.get(name, Step()) for name in classes)
        self.fitted_on = None if fitted_on is None else tuple(fitted_on)

    @classmethod
    def read(cls, path: Path | str, classes: Classes) -> "Calibration":
        """Read what `write` wrote; raises `DataError` that names file and field."""
        content = files.read_json(path)
        found = content.get("classes") if isinstance(content, dict) else None
        if not isinstance(found, dict):
            raise DataError(f"{path}: classes: expected an object with a class each; is it from `carpus calibrate`?")
        known = set(asdict(Step()))
        for name, step in found.items():
            if not isinstance(step, dict) or set(step) - known:
                raise DataError(f"{path}: classes.{name}: expected {', '.join(sorted(known))}")
        members = content.get("members", [])
        if not isinstance(members, list) or not all(isinstance(of, list) for of in members):
            raise DataError(f"{path}: members: expected a list of lists of SHA-256")
        options = content.get("options", {})
        if not isinstance(options, dict):
            raise DataError(f"{path}: options: expected an object")
        fitted_on = content.get("fitted_on")
        if fitted_on is not None and not (isinstance(fitted_on, list) and all(isinstance(of, str) for of in fitted_on)):
            raise DataError(f"{path}: fitted_on: expected a list of patients")
        steps = {name: Step(**_hashable(step)) for name, step in found.items()}
        return cls(steps, classes, members, options, str(path), fitted_on)

    def write(self, path: Path | str, **facts: Any) -> None:
        """Write it as JSON, with `facts` on how it was found beside it."""
        steps = {name: asdict(step) for name, step in zip(self.classes, self.steps, strict=True)}
        own = {"fitted_on": self.fitted_on, "members": self.members, "options": self.options, "classes": steps}
        files.write_json(path, {**facts, **own}, indent=2)

    @staticmethod
    def require_place(path: Path) -> None:
        """Raise `DataError`, before the work, if `path` holds something else than what `write` wrote."""
        files.require_own(path, "calibration", _is_calibration)

    def doubt(self, runs: Sequence[str], options: Mapping[str, Any]) -> None:
        """Warn of runs that it was not fitted on, and of images shown in another way than when it was.

        Args:
            runs: SHA-256 of the runs' weights.
            options: see `predict.Options.facts`.
        """
        if self.members and not set(runs) <= set().union(*self.members):
            warn(f"{self._source}: was fitted on other runs; what helps those need not help these")
        other = [name for name, value in self.options.items() if value != options.get(name)]
        if other:
            warn(f"{self._source}: was fitted with other {', '.join(other)}; give the options of `carpus calibrate`")

    def thresholds(self) -> Tensor:
        """(K,) float64 probabilities for `kernels.threshold`."""
        return torch.tensor([step.threshold for step in self.steps], dtype=torch.float64)

    def tempered(self, logits: Tensor) -> Tensor:
        """Logits (1, K, h, w) divided by the temperatures; the same tensor where there are none."""
        if all(step.temperature == 1 for step in self.steps):
            return logits
        return logits / torch.tensor([step.temperature for step in self.steps]).to(logits)[:, None, None]

    def weights(self) -> NDArray[np.float64]:
        """(M, K): what every member counts for every class."""
        alike = (1.0,) * len(self.members)
        return np.array([step.weights or alike for step in self.steps], np.float64).T

    def weights_of(self, runs: Sequence[str]) -> NDArray[np.float64] | None:
        """What every run of an ensemble counts for every class.

        Args:
            runs: R SHA-256 of the runs' weights.

        Returns:
            (R, K), the weight of a member shared among its runs; None if all count alike.

        Raises:
            ConfigError: a run that is of no member, or a member without a run.
        """
        if not any(step.weights for step in self.steps):
            return None
        of_run = [next((m for m, of in enumerate(self.members) if each in of), None) for each in runs]
        if None in of_run or len(set(of_run)) < len(self.members):
            raise ConfigError(
                f"{self._source}: weighs {len(self.members)} members of an ensemble; give runs of all of them and "
                "no others, those that `carpus calibrate` was given"
            )
        member = np.array(of_run, np.intp)
        return self.weights()[member] / np.bincount(member)[member][:, None]

    @property
    def shapes(self) -> bool:
        """Whether `repaired` could change anything."""
        return any(step.shapes for step in self.steps)

    def repaired(self, labels: LabelMap) -> LabelMap:
        """`labels` (H, W) with the shapes of every class repaired; the same array where nothing is asked for."""
        if not self.shapes:
            return labels
        result = labels.copy()
        everything = int(label_map.area(labels, len(self.classes)).sum())
        for k, (step, box) in enumerate(zip(self.steps, label_map.boxes(labels, len(self.classes)), strict=True)):
            if step.shapes and box is not None:
                mask = repair(label_map.has(labels[box], k), step, everything)
                label_map.erase(result[box], k)
                label_map.paint(result, k, mask, box[0].start, box[1].start)
        return result


def _is_calibration(path: Path) -> bool:
    """Whether `Calibration.write` made a file."""
    try:
        there = files.read_json(path)
    except DataError:
        return False
    return isinstance(there, dict) and {"fitted_on", "members", "options", "classes"} <= there.keys()


def repair(mask: Mask, step: Step, everything: int) -> Mask:
    """One mask (h, w) bool after the shape repairs of `step`: components first, then holes.

    Args:
        mask: the class within its bounding box.
        step: what to do.
        everything: pixels of all classes in the image together, for `Step.least`.
    """
    kept = mask
    if step.largest or step.least:
        count, components, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA]
        keep = areas >= step.least * everything
        if step.largest and count > 1:
            only = np.zeros_like(keep)
            only[1 + int(areas[1:].argmax())] = True
            keep &= only
        keep[0] = False
        kept = keep[components.astype(np.intp)]
    if step.fill and kept.any():
        # Outside the mask, 4-connected: what no way leads to from beyond the border is a hole.
        outside = np.pad(~kept, 1, constant_values=True).astype(np.uint8)
        _, regions = cv2.connectedComponents(outside, connectivity=4)
        kept = (regions != regions[0, 0])[1:-1, 1:-1]
    return kept


def _hashable(step: dict[str, Any]) -> dict[str, Any]:
    """A step as JSON has it, with its list as a tuple."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in step.items()}


def _wrong(step: Step, members: int) -> str | None:
    numbers = {"threshold": step.threshold, "temperature": step.temperature, "least": step.least}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"{name}: expected a number, has {value!r:.40}"
    for name, value in {"largest": step.largest, "fill": step.fill}.items():
        if not isinstance(value, bool):
            return f"{name}: expected true or false, has {value!r:.40}"
    weights = step.weights
    if not isinstance(weights, tuple) or not all(
        type(each) in (int, float) and 0 <= each < math.inf for each in weights
    ):
        return f"weights: expected a list of numbers, 0 or more, has {weights!r:.40}"
    if weights and (len(weights) != members or not any(weights)):
        return f"weights: expected one for each of {members} members, not all 0, has {list(weights)}"
    if not 0 < step.threshold < 1:
        return f"threshold: expected above 0 and below 1, has {step.threshold}"
    if not 0 < step.temperature <= 100:
        return f"temperature: expected above 0, at most 100, has {step.temperature}"
    if not 0 <= step.least < 1:
        return f"least: expected 0 up to below 1, has {step.least}"
    return None
