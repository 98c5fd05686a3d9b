"""What the tests of the viewer do with a page."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from carpus import data, labels


def shown(page: Any, name: str = "") -> None:
    page.wait_for_selector(f'.stage[data-shown*="{name}"]' if name else ".stage[data-shown]")


def asked(page: Any, **wanted: str | None) -> None:
    """Wait until the address says so; None is not in it."""
    for name, value in wanted.items():
        test = f"new URL(location).searchParams.get('{name}') === {'null' if value is None else repr(value)}"
        page.wait_for_function(test)


def keys(page: Any, *names: str) -> None:
    """Press keys faster than anybody can answer."""
    page.evaluate(
        "(names) => names.forEach((key) => window.dispatchEvent(new KeyboardEvent('keydown', { key })))", names
    )


def at(page: Any, x: float, y: float, side: int = 1024) -> tuple[float, float]:
    """Where a label pixel of a square image is on the screen while the whole image is shown."""
    box = page.locator("canvas").first.bounding_box()
    scale = min(box["width"], box["height"]) / side
    return (
        box["x"] + box["width"] / 2 + (x + 0.5 - side / 2) * scale,
        box["y"] + box["height"] / 2 + (y + 0.5 - side / 2) * scale,
    )


def colour(page: Any, x: float, y: float, right: int = 0, down: int = 0) -> list[int]:
    """What is drawn at a label pixel, or so many screen pixels beside it, while the whole image is shown."""
    left, top = at(page, x, y)
    box = page.locator("canvas").first.bounding_box()
    place = f"{left - box['x'] + right}, {top - box['y'] + down}, 1, 1"
    return page.locator("canvas").first.evaluate(
        f"(canvas) => [...canvas.getContext('2d').getImageData({place}).data.slice(0, 3)]"
    )


def colours(page: Any, x: float, y: float) -> set[tuple[int, int, int]]:
    """The colours of the 5 x 5 screen pixels around a label pixel."""
    return {
        tuple(colour(page, x, y, right, down))  # type: ignore[misc]
        for right in range(-2, 3)
        for down in range(-2, 3)
    }


def middle(mask: labels.Mask) -> tuple[float, float]:
    """A pixel (x, y) well inside a mask."""
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(x), float(y)


def cases(root: Path) -> list[data.Case]:
    return list(data.cases(root, "train"))
