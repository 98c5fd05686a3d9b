"""The picture of augmentation.md: ``python docs/augmentation.py``."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus import augment, config, phantom, pictures
from carpus.formats import images

SIDE, COLUMNS, GAP = 240, 5, 6
SHOWN: dict[str, dict[str, float | bool]] = {
    "nothing": {},
    "rotation_deg: 45": {"rotation_deg": 45},
    "scale: 0.15": {"scale": 0.15},
    "shift: 0.06": {"shift": 0.06},
    "flip: true": {"flip": True},
    "gamma: 0.25": {"gamma": 0.25},
    "contrast: 0.2": {"contrast": 0.2},
    "brightness: 0.05": {"brightness": 0.05},
    "noise: 0.03": {"noise": 0.03},
    "blur: 4": {"blur": 4.0},
    "elastic: 0.02": {"elastic": 0.02},
    "clahe: 4": {"clahe": 4.0},
    "collimation: 0.2": {"collimation": 0.2},
    "data.crop: half the side": {},
    "one draw of the defaults": {},
}
"""Title: settings, which are shown at their limits."""

INTENSITY = ("gamma", "contrast", "brightness", "noise", "blur", "clahe")
"""What leaves the outlines alone: shown close up, without them, on both sides of the image as it was."""

WRIST = 335, 262
"""Top and left of the close-up."""


class Limit(np.random.Generator):
    """Draws nothing between the limits of a setting: everything is at the lower one, at the upper one, or at either."""

    def __init__(self, seed: int = 0, *, at: Literal["low", "high", "either"] = "high") -> None:
        super().__init__(np.random.PCG64(seed))
        self.at = at

    def spawn(self, n_children: int) -> list[np.random.Generator]:
        """Itself for every kind of change."""
        return [self] * n_children

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """The limits; at either, each number is one of both by chance."""
        if self.at == "either":
            return self.choice([low, high], size)
        return np.full(size, low if self.at == "low" else high)

    def random(self, size: Any = None, *_: Any, **__: Any) -> Any:
        """0 or 1; a single number mirrors, where that is on."""
        return 0.0 if size is None else np.full(size, 0.0 if self.at == "low" else 1.0)


def panel(title: str, one: phantom.Hand) -> NDArray[np.uint8]:
    """One change (SIDE + 24, SIDE, 3) and its name below."""
    options = SHOWN[title]
    settings = replace(augment.Settings(), **options)  # pyright: ignore[reportArgumentType]
    if set(options) & set(INTENSITY):
        drawn = close_up(one, settings)
    elif "crop" in title:
        crop = augment.Crop(one.image.shape[0] // 2, 1.0)
        drawn = outlined(*augment.apply(one.image, one.labels, settings, np.random.default_rng(4), crop))
    elif "draw" in title:
        settings = augment.Settings(**config.Augment().model_dump())
        drawn = outlined(*augment.apply(one.image, one.labels, settings, np.random.default_rng(11)))
    else:
        limit = Limit(2, at="either" if "elastic" in options else "high")
        drawn = outlined(*augment.apply(one.image, one.labels, settings, limit))
    label = np.full((24, SIDE, 3), 255, np.uint8)
    cv2.putText(label, title, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.pad(np.concatenate([drawn, label]), ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


def outlined(grey: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The whole image (SIDE, SIDE, 3), with the outlines of the bones."""
    return pictures.overlay((grey * 255).astype(np.uint8), labels, longest=SIDE)


def close_up(one: phantom.Hand, settings: augment.Settings) -> NDArray[np.uint8]:
    """The same strip of the wrist three times (SIDE, SIDE, 3): at the lower limit, as it is, at the upper limit."""
    (top, left), wide = WRIST, (SIDE - 2 * GAP) // 3
    low, high = (augment.apply(one.image, one.labels, settings, Limit(at=at))[0] for at in ("low", "high"))
    canvas = np.full((SIDE, SIDE), 255, np.uint8)
    for place, grey in enumerate((low, one.image / 255, high)):
        start = place * (wide + GAP)
        canvas[:, start : start + wide] = grey[top : top + SIDE, left : left + wide] * 255
    return np.repeat(canvas[..., None], 3, axis=2)


def main() -> None:
    """Draw every change of the same hand and write augmentation.png beside this file."""
    named = {name for options in SHOWN.values() for name in options}
    missing = {field.name for field in fields(augment.Settings)} - named
    assert not missing, f"no picture of {missing}"
    one = phantom.hand(np.random.default_rng(5), 600)
    panels = [panel(title, one) for title in SHOWN]
    rows = [np.concatenate(panels[start : start + COLUMNS], axis=1) for start in range(0, len(panels), COLUMNS)]
    images.write(Path(__file__).with_suffix(".png"), np.concatenate(rows))


if __name__ == "__main__":
    main()
