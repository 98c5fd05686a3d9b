"""The list of images in the viewer: filters, orders, and the keys after each of Streamlit's controls."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driving import asked, cases, shown

from carpus.labels import BONES

Open = Callable[..., Any]


def _choose(page: Any, control: str, option: str) -> None:
    page.get_by_role("combobox", name=control, exact=True).click()
    page.get_by_role("option", name=option).click()


def _slide(page: Any) -> None:
    """Drag the lower end of the Dice a little up."""
    box = page.get_by_test_id("stSlider").bounding_box()
    thumb = page.get_by_test_id("stSliderThumbValue").first.bounding_box()
    y = thumb["y"] + thumb["height"] + 8
    page.mouse.move(thumb["x"] + thumb["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 40, y, steps=4)
    page.mouse.up()
    page.wait_for_function("new URL(location).searchParams.get('low') !== null")


def _type(page: Any) -> None:
    field = page.get_by_role("textbox", name="Name")
    field.fill("ID00")
    field.press("Enter")
    asked(page, search="ID00")


CONTROLS: dict[str, Callable[[Any], None]] = {
    "both hands": lambda page: page.get_by_text("Both hands").click(),
    "against": lambda page: _choose(page, "against", "truth.csv"),
    "order": lambda page: _choose(page, "Order", "lowest mean"),
    "split": lambda page: _choose(page, "Split", "train"),
    "dice": _slide,
    "name": _type,
    "tone": lambda page: page.get_by_label("darkest").click(),
}


ADDRESSED = {"against": {"second": "truth.csv"}, "order": {"order": "mean"}, "split": {"split": "train"}}


@pytest.mark.parametrize("control", CONTROLS)
def test_arrows_step_after_the_use_of_a_control(address: str, planted: Path, open_page: Open, control: str) -> None:
    first = cases(planted)[0].name
    page = open_page(f"{address}/?case={first}")
    shown(page, first)
    if control in ("split", "dice", "name"):
        page.get_by_role("button", name="Filter").click()
    if control == "tone":
        page.locator(".tone summary").click()
    CONTROLS[control](page)
    if control == "both hands":
        page.locator("canvas").nth(1).wait_for()
    if control in ADDRESSED:
        asked(page, **ADDRESSED[control])
    page.wait_for_timeout(800)  # for whoever looks at what came of it
    rows = [row.get_attribute("title") for row in page.locator(".row").all()]
    here, by = rows.index(first), 2 if control == "both hands" else 1
    # Another order, where all was measured, may have it at the end.
    key, there = ("ArrowRight", here + by) if here + by < len(rows) else ("ArrowLeft", here - by)
    page.keyboard.press(key)
    shown(page, rows[there])


def test_filters_are_counted_at_once_and_taken_back(address: str, planted: Path, open_page: Open) -> None:
    page = open_page(address)
    shown(page)
    page.get_by_role("button", name="Filter").click()
    _choose(page, "Split", "test")
    page.get_by_role("button", name="Filter · 1").wait_for()
    page.locator(".count", has_text="of 2").wait_for()
    _choose(page, "Bone", "finger-3")
    _slide(page)
    page.get_by_role("button", name="Filter · 2").wait_for()
    page.get_by_role("button", name="Clear filters").click()
    page.locator(".count", has_text="of 8").wait_for()
    asked(page, split=None, low=None, bone="finger-3")
    assert page.get_by_role("combobox", name="Split", exact=True).input_value() == "any"
    assert page.get_by_role("button", name="Clear filters").is_disabled()


def test_a_list_without_images_offers_to_take_the_filters_back(address: str, open_page: Open) -> None:
    page = open_page(f"{address}/?search=nobody&split=train")
    page.get_by_text("No image passes the filters.").wait_for()
    page.locator(".empty button").click()
    shown(page)
    asked(page, search=None, split=None)
    assert page.locator(".empty").is_hidden()


def test_what_is_not_measured_yet_is_told_where_it_would_act(
    serve: Callable[..., str], planted: Path, open_page: Open
) -> None:
    page = open_page(f"{serve(planted, planted.parent / 'sub.csv')}/?pose=bent&low=0.1&order=worst")
    page.locator(".hint", has_text="Not known before everything is measured: pose, Dice, the order.").wait_for()
    assert page.locator(".row").count() == 8
    page.get_by_role("button", name="Measure all").click()
    page.get_by_role("button", name="Measured").wait_for()
    page.locator(".hint").wait_for(state="detached")
    page.get_by_role("button", name="Filter · 2").wait_for()
    page.goto(page.url.replace("pose=bent", "").replace("low=0.1", ""))
    shown(page)
    # The submission lacks a whole bone of one image, which the list names beside its Dice.
    name, dice = page.locator(".row .number").first.inner_text().split()
    assert name in BONES.names
    assert float(dice) == 0
    page.goto(page.url.replace("second=sub.csv", ""))
    page.locator(".hint", has_text="no Dice without something to compare with").wait_for()
