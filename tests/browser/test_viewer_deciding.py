"""Decisions in the viewer: on the image that is on the screen, in the folder that is named, and none is lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from driving import asked, keys, shown

from carpus import data
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
    page.locator('[data-bone="finger-2"] .verdict.reject').click()
    _pressed(page, "finger-2", "reject").wait_for()
    assert _decided(undecided) == {(name, "finger-2"): "reject"}
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    _pressed(page, "finger-2", "accept").wait_for()
    assert _decided(undecided) == {(name, bone): "accept" for bone in BONES}
    for bone, verdict in (("Pisiform", "reject"), ("Trapezoid", "ignore")):
        page.locator(f'[data-bone="{bone}"] .verdict.{verdict}').click()
        _pressed(page, bone, verdict).wait_for()
    page.mouse.move(5, 5)
    picture(page, f"viewer-decide-{size}")
    for bone, left in (("Trapezoid", "accept"), ("Pisiform", "accept"), ("finger-2", "reject")):
        page.keyboard.press("u")
        _pressed(page, bone, left).wait_for()
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
    assert _decided(undecided) == {(first, bone): "accept" for bone in BONES}
    assert not (planted / decisions.FILE).exists()
    page.keyboard.press("ArrowRight")
    shown(page, second)
    page.keyboard.press("u")
    page.locator(".decisions", has_text="0 of 2 images").wait_for()
    assert not (undecided / decisions.FILE).exists()


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
    assert page.locator(".decisions .told").first.inner_text() == "1 bone of this image decided in pseudo"
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
    assert set(_decided(undecided)) == {(second, bone) for bone in BONES}


def test_verdicts_in_quick_succession_are_all_heard(deciding: str, undecided: Path, open_page: Open) -> None:
    name = _names(undecided)[0]
    page = open_page(f"{deciding}/?first=pseudo&case={name}")
    shown(page)
    verdicts = page.locator('[data-bone^="finger-"] .verdict.reject')
    verdicts.evaluate_all(
        "async (all) => { for (const one of all) { one.click(); await new Promise((go) => setTimeout(go, 15)); } }"
    )
    page.locator(".decisions", has_text="19 bones of this image").wait_for()
    assert _decided(undecided) == {(name, f"finger-{n}"): "reject" for n in range(1, 20)}


def test_undo_tells_what_somebody_decided_since(deciding: str, undecided: Path, open_page: Open) -> None:
    name = _names(undecided)[0]
    page = open_page(f"{deciding}/?first=pseudo&case={name}&chosen=Lunate")
    shown(page)
    page.keyboard.press("r")
    _pressed(page, "Lunate", "reject").wait_for()
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
