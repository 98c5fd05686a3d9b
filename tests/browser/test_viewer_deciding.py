"""Decisions in the viewer: on the image that is on the screen, in the folder that is named, and none is lost."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from driving import asked, keys, shown

from carpus import data
from carpus.formats import annotations
from carpus.labels import BONES
from carpus.pseudo import decisions

Open = Callable[..., Any]
Keep = Callable[[Any, str], Path]


@pytest.fixture(scope="module")
def deciding(serve: Callable[..., str], planted: Path, pseudo: Path) -> str:
    """A viewer of annotations, and of pseudo-labels of the test images."""
    return serve(planted, pseudo)


@pytest.fixture
def undecided(pseudo: Path) -> Path:
    """The pseudo-labelled folder, without decisions."""
    (pseudo / decisions.FILE).unlink(missing_ok=True)
    return pseudo


def _names(root: Path) -> list[str]:
    return [case.name for case in data.cases(root, "train")]


def _labelled(root: Path, name: str) -> frozenset[str]:
    """The bones that have a mask, which not all pseudo-labels have."""
    return next(annotations.labelled(case.annotation or "") for case in data.cases(root, "train") if case.name == name)


def _pressed(page: Any, bone: str, verdict: str) -> Any:
    return page.locator(f'[data-bone="{bone}"] .verdict.{verdict}[aria-pressed="true"]')


def _decided(root: Path) -> dict[tuple[str, str], str]:
    return {key: each.verdict for key, each in decisions.read(root).items()}


@pytest.mark.parametrize("size", ["desktop", "laptop"])
def test_decisions_are_on_disk_at_once_and_can_be_undone(
    deciding: str, undecided: Path, open_page: Open, picture: Keep, size: str
) -> None:
    name = _names(undecided)[0]
    page = open_page(f"{deciding}/?case={name}&first=pseudo&compare=first&doubt=1", size)
    shown(page, name)
    made = {"finger-2": "reject", "Pisiform": "reject", "Trapezoid": "ignore", "Radius": "accept"}
    for bone, verdict in made.items():
        page.locator(f'[data-bone="{bone}"] .verdict.{verdict}').click()
        _pressed(page, bone, verdict).wait_for()
    by_hand = {(name, bone): verdict for bone, verdict in made.items()}
    assert _decided(undecided) == by_hand
    page.mouse.move(5, 5)
    assert page.locator(".decisions").evaluate("(box) => box.scrollWidth <= box.clientWidth")
    picture(page, f"viewer-decide-{size}")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    _pressed(page, "finger-1", "accept").wait_for()
    # Those on which somebody has decided already are left as they are.
    labelled = _labelled(undecided, name)
    page.locator(".decisions .spared", has_text=f"nothing left: {len(labelled)} decided").wait_for()
    assert _decided(undecided) == {(name, bone): "accept" for bone in labelled} | by_hand
    page.keyboard.press("u")
    page.locator(".decisions", has_text=f"4 of {len(labelled)} bones").wait_for()
    assert _decided(undecided) == by_hand
    for left in (3, 2, 1):
        page.keyboard.press("u")
        page.locator(".decisions", has_text=f"{left} of {len(labelled)} bones").wait_for()
    assert _decided(undecided) == {(name, "finger-2"): "reject"}
    page.keyboard.press("u")
    page.locator(".decisions", has_text="nothing decided").wait_for()
    assert not (undecided / decisions.FILE).exists()


def test_only_labels_of_the_named_folder_are_decided_on(
    deciding: str, planted: Path, undecided: Path, open_page: Open
) -> None:
    # `pseudo` has no labels of this image, and the annotations are not shown.
    page = open_page(f"{deciding}/?first=pseudo&case={_names(planted)[0]}")
    shown(page)
    page.keyboard.press("a")
    page.wait_for_timeout(1000)
    assert page.locator(".decisions, .verdict").count() == 0
    # Annotations are shown as well, but of these two it is the pseudo-labels that are meant.
    first, second = _names(undecided)
    page = open_page(f"{deciding}/?first=data&second=pseudo&case={first}")
    shown(page)
    assert page.locator(".decisions .folder").inner_text() == "pseudo"
    page.keyboard.press("a")
    page.locator(".decisions", has_text="1 of 2 images").wait_for()
    assert _decided(undecided) == {(first, bone): "accept" for bone in _labelled(undecided, first)}
    assert not (planted / decisions.FILE).exists()
    page.keyboard.press("ArrowRight")
    shown(page, second)
    page.keyboard.press("u")
    page.locator(".decisions", has_text="0 of 2 images").wait_for()
    assert not (undecided / decisions.FILE).exists()


def _rejected(deciding: str, undecided: Path, open_page: Open, bone: str) -> tuple[str, Any]:
    """The first image and its page, on which a bone is chosen and was just rejected."""
    name = _names(undecided)[0]
    page = open_page(f"{deciding}/?first=pseudo&case={name}&chosen={bone}")
    shown(page)
    page.keyboard.press("r")
    _pressed(page, bone, "reject").wait_for()
    return name, page


def test_buttons_are_about_what_they_say_as_the_keys_are(deciding: str, undecided: Path, open_page: Open) -> None:
    name, page = _rejected(deciding, undecided, open_page, "Hamate")
    accept = page.locator(".decisions .verdict.accept")
    assert accept.inner_text().split() == ["Accept", "A", "Hamate"]
    accept.click()
    _pressed(page, "Hamate", "accept").wait_for()
    assert _decided(undecided) == {(name, "Hamate"): "accept"}
    page.keyboard.press("Escape")
    page.locator(".decisions .spared", has_text="not touched: 1 decided").wait_for()
    labelled = _labelled(undecided, name)
    page.get_by_role("button", name=f"Reject other {len(labelled) - 1}").click()
    page.get_by_role("button", name="Reject none left").wait_for()
    assert _decided(undecided) == {(name, bone): "reject" for bone in labelled} | {(name, "Hamate"): "accept"}
    page.keyboard.press("x")
    page.locator(".where", has_text="Nothing decided").wait_for(state="attached")
    assert set(_decided(undecided).values()) == {"reject", "accept"}


def test_a_verdict_on_the_image_passes_over_bones_without_a_mask(
    serve: Callable[..., str], planted: Path, open_page: Open
) -> None:
    name = _names(planted)[3]  # without its Pisiform
    page = open_page(f"{serve(planted)}/?case={name}")
    shown(page)
    page.locator(".decisions .spared", has_text="not touched: 1 without a mask").wait_for()
    page.keyboard.press("a")
    page.locator(".decisions", has_text="28 of 28 bones").wait_for()
    assert _decided(planted) == {(name, bone): "accept" for bone in BONES if bone != "Pisiform"}
    assert page.locator(f'.row[title="{name}"] .mark.accept').inner_text() == "✓"
    page.keyboard.press("u")
    page.locator(".decisions", has_text="nothing decided").wait_for()


def test_nothing_is_said_to_be_without_a_mask_before_its_labels_are_there(
    address: str, planted: Path, open_page: Open
) -> None:
    page = open_page(address)
    shown(page)
    held: dict[str, Any] = {}
    page.route("**/carpus/labels/**", lambda route: held.update({route.request.url.split("layer=")[1]: route}))
    name = _names(planted)[3]  # without its Pisiform
    page.goto(f"{address}/?case={name}&first=data&second=sub.csv")
    page.locator(".note", has_text="the labels of data are on their way").wait_for()
    spared = page.locator(".decisions .spared")
    assert spared.inner_text() == "the labels are on their way"
    assert page.locator(".decisions .verdict.accept").is_disabled()
    assert page.locator(".bone.absent").count() == 0
    page.keyboard.press("a")
    page.locator(".where", has_text="on its way").wait_for(state="attached")
    # What has come is drawn, and can be decided on, though the other is on its way.
    held["data"].continue_()
    page.locator(".decisions .spared", has_text="not touched: 1 without a mask").wait_for()
    assert page.locator(".caption").inner_text() == f"{name} · data"
    assert page.locator(".note").inner_text() == "the labels of sub.csv are on their way"
    assert page.locator(".decisions .verdict.accept").is_enabled()
    assert not (planted / decisions.FILE).exists()
    held["sub.csv"].continue_()
    shown(page, name)
    assert page.locator(".note").is_hidden()
    told = page.evaluate("import('/carpus/static/loading.js').then(({ awaited }) => awaited('run', ['run']))")
    assert told == "run is looking at this image"


def test_a_bone_that_was_left_out_and_accepted_is_not_struck_out(
    deciding: str, undecided: Path, open_page: Open
) -> None:
    page = open_page(f"{deciding}/?first=pseudo&order=left_out")
    row = page.locator(".bone.left-out").first
    row.wait_for()
    shown(page)
    bone = row.get_attribute("data-bone")
    row.click()
    about = page.locator(".selection .grow")
    page.locator(".selection .grow", has_text=f"{bone}: left out: ").wait_for()
    page.keyboard.press("r")
    _pressed(page, bone, "reject").wait_for()
    assert page.locator(f'.left-out[data-bone="{bone}"]').count() == 1
    page.keyboard.press("a")
    _pressed(page, bone, "accept").wait_for()
    told = "left out by the selection, accepted"
    assert about.inner_text() == f"{bone}: {told}"
    row = page.locator(f'[data-bone="{bone}"]')
    assert (row.locator(".out").inner_text(), row.get_attribute("title")) == (told, told)
    assert "left-out" not in row.get_attribute("class")


def test_marks_tell_how_far_an_image_is_and_a_key_goes_to_the_next(
    deciding: str, undecided: Path, open_page: Open
) -> None:
    first, second = _names(undecided)
    page = open_page(f"{deciding}/?first=pseudo&case={second}&chosen=Hamate")
    shown(page, second)
    page.keyboard.press("a")
    page.locator(f'.row[title="{second}"] .mark', has_text=f"1/{len(_labelled(undecided, second))}").wait_for()
    page.locator(".decisions", has_text="0 of 2 images").wait_for()
    page.keyboard.press("n")  # no image before them has pseudo-labels: round to the first that has
    shown(page, first)
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    page.locator(".decisions", has_text="1 of 2 images").wait_for()
    page.keyboard.press("n")
    shown(page, second)
    page.keyboard.press("x")
    page.locator(f'.row[title="{second}"] .mark.mixed').wait_for()
    page.keyboard.press("p")
    page.locator(".where", has_text="No other image").wait_for(state="attached")


def test_labels_that_cannot_be_read_cannot_be_decided_on(
    serve: Callable[..., str], planted: Path, open_page: Open, tmp_path: Path
) -> None:
    root = shutil.copytree(planted, tmp_path / "data")
    next(iter(sorted((root / "train/outputs_json").rglob("*.json")))).write_text("{")
    page = open_page(f"{serve(root)}/?case={_names(root)[0]}")
    page.locator(".decisions", has_text="the labels cannot be read").wait_for()
    assert page.locator(".decisions .verdict.accept").is_disabled()
    page.keyboard.press("a")
    page.locator(".where", has_text="Nothing decided: the labels cannot be read").wait_for(state="attached")
    assert not (root / decisions.FILE).exists()


def test_a_verdict_leaves_the_picture_as_it_is(deciding: str, undecided: Path, open_page: Open) -> None:
    name = _names(undecided)[0]
    page = open_page(f"{deciding}/?first=pseudo&case={name}")
    shown(page)
    page.locator('[data-bone="Radius"]').click()
    page.wait_for_function("new URL(location).searchParams.get('at')")
    before = page.url
    page.keyboard.press("r")
    _pressed(page, "Radius", "reject").wait_for()
    page.wait_for_timeout(600)
    assert urlsplit(page.url).query == urlsplit(before).query
    assert (
        page.locator(".decisions .told").first.inner_text()
        == f"1 of {len(_labelled(undecided, name))} bones decided in pseudo"
    )
    assert _decided(undecided) == {(name, "Radius"): "reject"}


def test_an_image_that_is_not_on_the_screen_is_not_decided_on(deciding: str, undecided: Path, open_page: Open) -> None:
    first, second = _names(undecided)
    page = open_page(f"{deciding}/?first=pseudo&case={first}")
    shown(page, first)
    keys(page, "ArrowRight", "r")
    page.locator(".where", has_text="Nothing decided").wait_for(state="attached")
    shown(page, second)
    page.wait_for_timeout(600)
    assert _decided(undecided) == {}
    page.keyboard.press("x")
    _pressed(page, "Radius", "ignore").wait_for()
    assert set(_decided(undecided)) == {(second, bone) for bone in _labelled(undecided, second)}


def test_verdicts_in_quick_succession_are_all_heard(deciding: str, undecided: Path, open_page: Open) -> None:
    name = _names(undecided)[0]
    page = open_page(f"{deciding}/?first=pseudo&case={name}")
    shown(page)
    verdicts = page.locator('[data-bone^="finger-"] .verdict.reject')
    verdicts.evaluate_all(
        "async (all) => { for (const one of all) { one.click(); await new Promise((go) => setTimeout(go, 15)); } }"
    )
    page.locator(".decisions", has_text=re.compile("19 of [0-9]+ bones")).wait_for()
    assert _decided(undecided) == {(name, f"finger-{n}"): "reject" for n in range(1, 20)}


def test_undo_tells_what_somebody_decided_since(deciding: str, undecided: Path, open_page: Open) -> None:
    name, page = _rejected(deciding, undecided, open_page, "Lunate")
    decisions.decide(undecided, name, "Lunate", "accept", "lee")
    page.keyboard.press("u")
    page.get_by_text("somebody has decided anew on Lunate").wait_for()
    _pressed(page, "Lunate", "accept").wait_for()
    assert decisions.read(undecided)[name, "Lunate"].by == "lee"


def test_quick_steps_are_all_made(deciding: str, planted: Path, open_page: Open) -> None:
    names = _names(planted)
    page = open_page(f"{deciding}/?first=data")
    shown(page, names[0])
    keys(page, "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "ArrowRight")
    shown(page, names[3])
    asked(page, case=names[3])
    page = open_page(f"{deciding}/?first=data&both=1&case={names[1]}")
    shown(page, names[1])
    keys(page, "ArrowRight", "ArrowRight")
    shown(page, " ".join(names[4:6]))


def test_quick_steps_to_images_that_wait_are_all_made(deciding: str, planted: Path, open_page: Open) -> None:
    names = _names(planted)
    page = open_page(f"{deciding}/?first=data")
    shown(page, names[0])
    keys(page, "n", "n", "n")
    shown(page, names[3])
    asked(page, case=names[3])
