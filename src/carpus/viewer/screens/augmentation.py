"""Augmentation: what a recipe makes of an image, draw by draw."""

import re

import cv2
import numpy as np
import streamlit as st

from carpus import augment, config, data, pictures
from carpus.errors import REFUSALS, DataError
from carpus.viewer.screens import state
from carpus.viewer.server import Shown
from carpus.viewer.view import RANGES, View

_SIDE = 512
_DRAWS = 8


def page() -> None:
    """Draw the page."""
    shown, view = state.opened()
    if not shown.workspace.entries:
        st.info("There is no image to change: `carpus view DATA`.")
        return
    columns = st.columns([1.2, 1.6, 1.6, 0.7, 0.9], vertical_alignment="bottom")
    recipes = shown.workspace.recipes
    usual = next((name for name in (*shown.workspace.given, *shown.workspace.runs) if name in recipes), "unet")
    asked = view.recipe if view.recipe in recipes else usual
    recipe = columns[0].selectbox("Recipe", list(recipes), list(recipes).index(asked), key="recipe")
    names = [entry.name for entry in shown.workspace.entries]
    case = columns[1].selectbox("Image", names, shown.workspace.place.get(view.case, 0), key="image")
    change = columns[2].text_input("Change", view.change, placeholder="rotation_deg=30 elastic=0.02", key="change")
    seed = int(columns[3].number_input("Seed", 0, int(RANGES["seed"][1]), view.seed, key="seed"))
    outlined = columns[4].toggle("Outlines", view.outlined, key="outlined")
    view = state.change(
        case=case, recipe="" if recipe == usual else recipe, change=change, seed=seed, outlined=outlined
    )
    state.address(view)
    try:
        settings = config.load([recipes[recipe]], [f"augment.{word}" for word in change.split()]).augment
        drawn = _draws(shown, view, case, augment.Settings(**settings.model_dump()), seed, outlined)
    except REFUSALS as error:
        # Typed here it is no option of the command.
        st.error(re.sub(r"(--set )?\baugment\.", "", str(error)))
        return
    on = [f"{name} {value:g}" for name, value in settings.model_dump().items() if value]
    st.caption("  ·  ".join(on) or "This recipe changes nothing.")
    for row in range(0, len(drawn), 4):
        for column, (title, picture) in zip(st.columns(4, gap="small"), drawn[row : row + 4], strict=False):
            column.image(picture, caption=title, width="stretch")


def _draws(
    shown: Shown, view: View, case: str, settings: augment.Settings, seed: int, outlined: bool
) -> list[tuple[str, np.ndarray]]:
    """The image as it is, and as the first draws of a seed change it."""
    place = shown.workspace.place[case]
    entry = shown.workspace.entries[place]
    if entry.image is None:
        raise DataError(f"{case}: has no image")
    image = data.square(data.read_image(entry.image), _SIDE)
    found = shown.packets.map(view.first, place) if view.first else None
    labels = data.square_labels(found, _SIDE) if found is not None else np.zeros((_SIDE, _SIDE), np.int32)
    drawn = [("as it is", _picture(shown, image, labels, outlined))]
    for n in range(_DRAWS - 1):
        grey, moved = augment.apply(image, labels, settings, np.random.default_rng((seed, n)))
        pixels = cv2.convertScaleAbs(grey, alpha=255.0).astype(np.uint8)
        drawn.append((f"draw {n + 1}", _picture(shown, pixels, moved, outlined)))
    return drawn


def _picture(shown: Shown, image: np.ndarray, labels: np.ndarray, outlined: bool) -> np.ndarray:
    if not outlined:
        return image
    return pictures.overlay(image, labels, classes=shown.workspace.classes)
