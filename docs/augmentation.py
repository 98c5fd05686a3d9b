"""The picture of augmentation.md: ``python docs/augmentation.py``."""

from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus import augment, config, phantom, pictures
from carpus.formats import images

SIDE, COLUMNS, GAP = 240, 5, 6
SHOWN: dict[str, tuple[dict[str, float | bool], int]] = {
    "nothing": ({}, 0),
    "rotation_deg: 45": ({"rotation_deg": 45}, 1),
    "scale: 0.15": ({"scale": 0.15}, 5),
    "shift: 0.06": ({"shift": 0.06}, 3),
    "flip: true": ({"flip": True}, 0),
    "gamma: 0.25": ({"gamma": 0.25}, 1),
    "contrast: 0.2": ({"contrast": 0.2}, 2),
    "brightness: 0.05": ({"brightness": 0.05}, 3),
    "noise: 0.03": ({"noise": 0.03}, 2),
    "blur: 4": ({"blur": 4.0}, 4),
    "elastic: 0.02": ({"elastic": 0.02}, 2),
    "clahe: 4": ({"clahe": 4.0}, 3),
    "collimation: 0.2": ({"collimation": 0.2}, 1),
    "data.crop: half the side": ({}, 4),
    "the defaults": ({}, 11),
}
"""Title: settings, and the seed of the draw that is shown."""


INTENSITY = ("gamma", "contrast", "brightness", "noise", "blur", "clahe")
"""What leaves the outlines alone: shown close up, without them, beside the image as it was."""

DRAWS = 40
"""The strongest of so many draws is shown: one of middling strength looks like nothing at all."""

WRIST = 335, 262
"""Top and left of the close-up."""


def panel(title: str, one: phantom.Hand) -> NDArray[np.uint8]:
    """One change (SIDE + 24, SIDE, 3) and its name below."""
    options, seed = SHOWN[title]
    settings = replace(augment.Settings(), **options)  # pyright: ignore[reportArgumentType]
    if title == "the defaults":
        settings = augment.Settings(**config.Augment().model_dump())
    drawn = close_up(one, settings) if set(options) & set(INTENSITY) else outlined(one, settings, seed, "crop" in title)
    label = np.full((24, SIDE, 3), 255, np.uint8)
    cv2.putText(label, title, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.pad(np.concatenate([drawn, label]), ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


def outlined(one: phantom.Hand, settings: augment.Settings, seed: int, cropped: bool) -> NDArray[np.uint8]:
    """The whole image (SIDE, SIDE, 3), with the outlines of the bones."""
    crop = augment.Crop(one.image.shape[0] // 2, 1.0) if cropped else None
    grey, labels = augment.apply(one.image, one.labels, settings, np.random.default_rng(seed), crop)
    return pictures.overlay((grey * 255).astype(np.uint8), labels, longest=SIDE)


def close_up(one: phantom.Hand, settings: augment.Settings) -> NDArray[np.uint8]:
    """The same strip of the wrist three times (SIDE, SIDE, 3): the one extreme, as it is, the other extreme."""
    plain, (top, left), wide = one.image / 255, WRIST, (SIDE - 2 * GAP) // 3
    drawn = [augment.apply(one.image, one.labels, settings, np.random.default_rng(seed))[0] for seed in range(DRAWS)]
    drawn.sort(key=lambda grey: float(np.abs(grey - plain).mean() * np.sign((grey - plain).mean())))
    canvas = np.full((SIDE, SIDE), 255, np.uint8)
    for place, grey in enumerate((drawn[0], plain, drawn[-1])):
        start = place * (wide + GAP)
        canvas[:, start : start + wide] = grey[top : top + SIDE, left : left + wide] * 255
    return np.repeat(canvas[..., None], 3, axis=2)


def main() -> None:
    """Draw every change of the same hand and write augmentation.png beside this file."""
    named = {name for options, _ in SHOWN.values() for name in options}
    missing = {field.name for field in fields(augment.Settings)} - named
    assert not missing, f"no picture of {missing}"
    one = phantom.hand(np.random.default_rng(5), 600)
    panels = [panel(title, one) for title in SHOWN]
    rows = [np.concatenate(panels[start : start + COLUMNS], axis=1) for start in range(0, len(panels), COLUMNS)]
    images.write(Path(__file__).with_suffix(".png"), np.concatenate(rows))


if __name__ == "__main__":
    main()
