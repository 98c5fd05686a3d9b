"""The viewer as somebody uses it: what is shown, said under the pointer, chosen, decided, and kept in the address."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from planted_data import MADE_UP

from carpus import data, kernels, labels, pictures
from carpus.formats import images
from carpus.labels import BONES
from carpus.pseudo import decisions, trust
from carpus.report import document

Open = Callable[..., Any]
Keep = Callable[[Any, str], Path]


def _shown(page: Any, name: str = "") -> None:
    page.wait_for_selector(f'.stage[data-shown*="{name}"]' if name else ".stage[data-shown]")


def _asked(page: Any, **wanted: str | None) -> None:
    """Wait until the address says so; None is not in it."""
    for name, value in wanted.items():
        test = f"new URL(location).searchParams.get('{name}') === {'null' if value is None else repr(value)}"
        page.wait_for_function(test)


def _at(page: Any, x: float, y: float, side: int = 1024) -> tuple[float, float]:
    """Where a label pixel of a square image is on the screen while the whole image is shown."""
    box = page.locator("canvas").first.bounding_box()
    scale = min(box["width"], box["height"]) / side
    return (
        box["x"] + box["width"] / 2 + (x + 0.5 - side / 2) * scale,
        box["y"] + box["height"] / 2 + (y + 0.5 - side / 2) * scale,
    )


def _colour(page: Any, x: float, y: float, right: int = 0, down: int = 0) -> list[int]:
    """What is drawn at a label pixel, or so many screen pixels beside it."""
    left, top = _at(page, x, y)
    box = page.locator("canvas").first.bounding_box()
    place = f"{left - box['x'] + right}, {top - box['y'] + down}, 1, 1"
    return page.evaluate(
        "() => { const c = document.querySelector('canvas') || [...document.querySelectorAll('*')]"
        ".map((e) => e.shadowRoot?.querySelector('canvas')).find(Boolean);"
        f"return [...c.getContext('2d').getImageData({place}).data.slice(0, 3)]; }}"
    )


def _colours(page: Any, x: float, y: float) -> set[tuple[int, int, int]]:
    """The colours of the 5 x 5 screen pixels around a label pixel."""
    return {
        tuple(_colour(page, x, y, right, down))  # type: ignore[misc]
        for right in range(-2, 3)
        for down in range(-2, 3)
    }


def _middle(mask: labels.Mask) -> tuple[float, float]:
    """A pixel (x, y) well inside a mask."""
    import cv2

    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(x), float(y)


def _cases(root: Path) -> list[data.Case]:
    return list(data.cases(root, "train"))


@pytest.mark.parametrize("size", ["desktop", "laptop"])
def test_pointer_names_all_bones_beneath_it(
    address: str, planted: Path, open_page: Open, picture: Keep, size: str
) -> None:
    page = open_page(f"{address}/?compare=first&style=fill", size)
    _shown(page)
    truth = data.read_labels(_cases(planted)[0])
    both = labels.has(truth, BONES.index("Triquetrum")) & labels.has(truth, BONES.index("Pisiform"))
    page.mouse.move(*_at(page, *_middle(both)))
    names = page.locator(".tip > div").all_inner_texts()
    assert sorted(names) == ["Pisiform", "Triquetrum"]
    page.locator(".mean b", has_text="0.").wait_for()
    picture(page, f"viewer-look-{size}")


def test_differences_have_the_colours_of_what_is_missed_and_made_up(
    address: str, planted: Path, open_page: Open, picture: Keep
) -> None:
    case = _cases(planted)[-1]
    page = open_page(f"{address}/?case={case.name}&first=data&second=sub.csv&opacity=0.7&style=fill")
    _shown(page)
    truth = data.read_labels(case)
    red, _, blue = _colour(page, *_middle(labels.has(truth, BONES.index("Radius"))))
    assert blue > red + 20
    red, _, blue = _colour(page, MADE_UP[1] + 40, MADE_UP[0] + 40)
    assert red > blue + 20
    page.keyboard.down(" ")
    page.wait_for_timeout(300)
    red, _, blue = _colour(page, MADE_UP[1] + 40, MADE_UP[0] + 40)
    assert red == blue
    page.keyboard.up(" ")
    rows, columns = pictures.around(data.read_labels(_cases(planted)[0]), group="carpals")
    middle = f"{(columns.start + columns.stop) // 2},{(rows.start + rows.stop) // 2}"
    page = open_page(f"{address}/?first=data&second=sub.csv&at={middle},2.6")
    _shown(page)
    page.locator(".mean b", has_text="0.").wait_for()
    picture(page, "viewer-difference")


def test_clicked_bone_is_chosen_and_brought_near(address: str, open_page: Open) -> None:
    page = open_page(address)
    _shown(page)
    page.locator('[data-bone="Lunate"]').click()
    _asked(page, chosen="Lunate")
    assert "chosen" in page.locator('[data-bone="Lunate"]').get_attribute("class")
    page.wait_for_function("new URL(location).searchParams.get('at')?.split(',')[2] > 1")
    page.keyboard.press("f")
    _asked(page, at=None, chosen="Lunate")


def test_keys_walk_through_images_and_ways_to_look(address: str, planted: Path, open_page: Open) -> None:
    first, second = (case.name for case in _cases(planted)[:2])
    page = open_page(address)
    _shown(page, first)
    page.keyboard.press("ArrowRight")
    _shown(page, second)
    _asked(page, case=second)
    page.keyboard.press("ArrowLeft")
    _shown(page, first)
    page.keyboard.press("o")
    _asked(page, style="fill")
    page.keyboard.press("c")
    _asked(page, compare="first")
    page.keyboard.press("i")
    _asked(page, invert="1")
    page.keyboard.press("?")
    page.get_by_text("undo the last decision").wait_for()


def test_link_opens_the_same_picture(address: str, planted: Path, open_page: Open) -> None:
    name = _cases(planted)[3].name
    link = (
        f"{address}/?case={name}&first=sub.csv&second=data&both=1&style=fill&compare=swipe&bones=Radius,Ulna"
        "&window=20-200&gamma=1.5&invert=1"
    )
    page = open_page(link)
    _shown(page, name)
    page.wait_for_timeout(600)
    assert parse_qs(urlsplit(page.url).query) == parse_qs(urlsplit(link).query)
    assert page.locator("canvas").count() == 2
    assert page.locator('.tick[aria-label="show Radius"]').get_attribute("aria-checked") == "true"
    assert page.locator('.tick[aria-label="show Lunate"]').get_attribute("aria-checked") == "false"


def test_window_and_wheel_act_on_the_picture_at_once(address: str, open_page: Open) -> None:
    page = open_page(f"{address}/?style=none")
    _shown(page)
    x, y = _at(page, 512, 700)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -600)
    page.wait_for_function("new URL(location).searchParams.get('at')?.split(',')[2] > 1")
    page.mouse.down(button="right")
    page.mouse.move(x - 40, y - 30, steps=4)
    page.mouse.up(button="right")
    page.wait_for_function("new URL(location).searchParams.get('window') !== null")
    page.mouse.dblclick(*_at(page, 10, 10))
    _asked(page, at=None)


@pytest.mark.parametrize("size", ["desktop", "laptop"])
def test_decisions_are_on_disk_at_once_and_can_be_undone(
    address: str, planted: Path, open_page: Open, picture: Keep, size: str
) -> None:
    name = _cases(planted)[4].name
    page = open_page(f"{address}/?case={name}&first=data&compare=first", size)
    _shown(page, name)

    def decided() -> dict[str, str]:
        return {bone: each.verdict for (of, bone), each in decisions.read(planted).items() if of == name}

    before = decided()
    button = page.locator('[data-bone="finger-2"] .verdict.reject')
    button.click()
    page.locator('[data-bone="finger-2"] .verdict.reject[aria-pressed="true"]').wait_for()
    assert decided() == before | {"finger-2": "reject"}
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    page.locator('[data-bone="finger-2"] .verdict.accept[aria-pressed="true"]').wait_for()
    assert decided() == dict.fromkeys(BONES, "accept")
    for bone, verdict in (("Pisiform", "reject"), ("Trapezoid", "ignore")):
        page.locator(f'[data-bone="{bone}"] .verdict.{verdict}').click()
        page.locator(f'[data-bone="{bone}"] .verdict.{verdict}[aria-pressed="true"]').wait_for()
    page.mouse.move(5, 5)
    picture(page, f"viewer-decide-{size}")
    for _ in range(4):
        left = len(decided())
        state = decided()
        page.keyboard.press("u")
        for _ in range(100):
            if decided() != state:
                break
            page.wait_for_timeout(100)
        assert len(decided()) <= left
        page.wait_for_timeout(500)
    assert decided() == before


def test_both_hands_lie_side_by_side(address: str, open_page: Open, picture: Keep) -> None:
    page = open_page(f"{address}/?compare=swipe&style=fill&first=data&second=sub.csv")
    _shown(page)
    page.get_by_text("Both hands").click()
    page.locator("canvas").nth(1).wait_for()
    page.locator(".mean b", has_text="0.").wait_for()
    picture(page, "viewer-both")


def test_filters_and_orders_act_on_the_list(address: str, planted: Path, open_page: Open) -> None:
    page = open_page(address)
    _shown(page)
    page.get_by_role("button", name="Measure all").click()
    page.get_by_role("button", name="Measured").wait_for()
    page.locator(".row .number", has_text="0.").first.wait_for()
    link = f"{address}/?labelled=missing&first=data&second=sub.csv"
    other = open_page(link)
    _shown(other)
    assert other.locator(".row").count() == 1
    assert (
        "1 bones missing" in other.locator(".status").inner_text() or "missing" in other.locator(".status").inner_text()
    )


def test_findings_come_with_their_picture(address: str, planted: Path, open_page: Open, picture: Keep) -> None:
    page = open_page(f"{address}/check")
    page.get_by_role("button", name="Check", exact=True).click()
    exchanged, missing = (case.name for case in _cases(planted)[2:4])
    _shown(page, exchanged)
    page.locator(".status", has_text="are exchanged").wait_for()
    picture(page, "viewer-check")
    _click_row(page, 1)
    _shown(page, missing)


def _click_row(page: Any, row: int) -> None:
    """Click the text in the second column of a table's row."""
    grid = page.locator('[data-testid="stDataFrame"]').first.bounding_box()
    page.mouse.click(grid["x"] + 120, grid["y"] + 52 + 35 * row)


def test_scores_by_bone_lead_to_the_worst_image(address: str, open_page: Open, picture: Keep) -> None:
    page = open_page(f"{address}/understand?first=data&second=sub.csv")
    measured = page.get_by_role("button", name="Measure all")
    worst = page.get_by_text("Worst images")
    measured.or_(worst).first.wait_for()
    if measured.is_visible():
        measured.click()
    worst.wait_for()
    page.get_by_text("Hand axis, degrees").wait_for(state="attached")
    picture(page, "viewer-understand")
    _click_row(page, 0)
    _shown(page)
    assert page.locator(".bone.chosen").get_attribute("data-bone") == "finger-1"


def test_augmentation_is_drawn(address: str, open_page: Open, picture: Keep) -> None:
    page = open_page(f"{address}/augmentation")
    page.get_by_text("draw 7").wait_for()
    picture(page, "viewer-augmentation")


def test_broken_submission_is_refused_in_the_readers_words(
    serve: Callable[..., str], planted: Path, open_page: Open, tmp_path: Path
) -> None:
    (tmp_path / "broken.csv").write_text("image_name,class,rle\nimage1.png,Radius,1 2 3\n")
    page = open_page(serve(planted, tmp_path / "broken.csv"))
    page.get_by_text("broken.csv: line 2").first.wait_for()


def test_pseudo_labels_tell_what_was_left_out_and_of_which_pixels_nobody_is_sure(
    serve: Callable[..., str], pseudo: Path, open_page: Open, picture: Keep
) -> None:
    page = open_page(f"{serve(pseudo)}/?order=left_out")
    _shown(page)
    cases = _cases(pseudo)
    counts = [_left_out(pseudo, case) for case in cases]
    first = cases[max(range(len(cases)), key=lambda n: len(counts[n]))]
    _shown(page, first.name)
    left_out = max(counts, key=len)
    assert page.locator(".row .out").all_inner_texts() == [f"{n} out" for n in sorted(map(len, counts), reverse=True)]
    assert set(left_out) == {row.get_attribute("data-bone") for row in page.locator(".bone.left-out").all()}
    total = sum(map(len, counts))
    page.locator(".selection summary", has_text=f"{2 * len(BONES) - total} of {2 * len(BONES)} bones kept").click()
    page.locator(".selection code").nth(1).wait_for()
    bone, measures = next((bone, each.measures) for bone, each in left_out.items() if "agreement" in each.reasons)
    page.locator(f'[data-bone="{bone}"]').click()
    page.locator(".measures .against", has_text=f"agreement{measures['agreement']:.3g}").wait_for()
    page.keyboard.press("f")
    found = trust.read(pseudo, first.name, images.size(first.image), BONES)
    assert found is not None
    doubtful = kernels.decode([found.doubtful], images.size(first.image)) > 0
    x, y = _middle(doubtful)
    page.wait_for_timeout(300)
    before = _colours(page, x, y)
    assert len(before & {(0, 0, 0), (255, 255, 255)}) < 2
    page.keyboard.press("d")
    _asked(page, doubt="1")
    page.wait_for_timeout(300)
    assert {(0, 0, 0), (255, 255, 255)} <= _colours(page, x, y)
    picture(page, "viewer-pseudo")


def _left_out(root: Path, case: data.Case) -> dict[str, trust.Bone]:
    found = trust.read(root, case.name, images.size(case.image), BONES)
    return {bone: each for bone, each in found.bones.items() if not each.kept} if found else {}


def test_a_study_alone_opens_dark(serve: Callable[..., str], open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study/study.yaml").touch()
    document.document(tmp_path / "study/report.html", "A study", "Its verdicts")
    page = open_page(serve(tmp_path / "study"))
    body = page.frame_locator("iframe").locator("body", has_text="Its verdicts")
    body.wait_for()
    colour = body.evaluate("(body) => getComputedStyle(body).backgroundColor")
    assert max(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) < 64
