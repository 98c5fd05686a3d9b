"""The viewer as somebody uses it: what is shown, said under the pointer, chosen, decided, and kept in the address."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from driving import asked, at, cases, colour, colours, middle, shown
from planted_data import MADE_UP
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

from carpus import data, kernels, labels, pictures
from carpus.formats import images
from carpus.labels import BONES
from carpus.pseudo import trust
from carpus.report import document

Open = Callable[..., Any]
Keep = Callable[[Any, str], Path]


@pytest.mark.parametrize("size", ["desktop", "laptop"])
def test_pointer_names_all_bones_beneath_it(
    address: str, planted: Path, open_page: Open, picture: Keep, size: str
) -> None:
    page = open_page(f"{address}/?compare=first&style=fill", size)
    shown(page)
    truth = data.read_labels(cases(planted)[0])
    both = labels.has(truth, BONES.index("Triquetrum")) & labels.has(truth, BONES.index("Pisiform"))
    page.mouse.move(*at(page, *middle(both)))
    names = page.locator(".tip > div").all_inner_texts()
    assert sorted(names) == ["Pisiform", "Triquetrum"]
    page.locator(".mean b", has_text="0.").wait_for()
    picture(page, f"viewer-look-{size}")


def test_differences_have_the_colours_of_what_is_missed_and_made_up(
    address: str, planted: Path, open_page: Open, picture: Keep
) -> None:
    case = cases(planted)[-1]
    page = open_page(f"{address}/?case={case.name}&first=data&second=sub.csv&opacity=0.7&style=fill")
    shown(page)
    missed, made_up = (
        middle(labels.has(data.read_labels(case), BONES.index("Radius"))),
        (MADE_UP[1] + 40, MADE_UP[0] + 40),
    )
    red, _, blue = colour(page, *missed)
    assert blue > red + 20
    red, _, blue = colour(page, *made_up)
    assert red > blue + 20
    page.keyboard.down(" ")
    page.wait_for_timeout(300)
    red, _, blue = colour(page, *made_up)
    assert red == blue
    page.keyboard.up(" ")
    page.keyboard.press("o")
    page.keyboard.press("o")
    asked(page, style=None)
    page.wait_for_timeout(300)
    red, _, blue = colour(page, *made_up)
    assert red == blue  # an outline is around it, not in it
    red, _, blue = colour(page, MADE_UP[1] - 0.5, made_up[1])
    assert red > blue + 20
    rows, columns = pictures.around(data.read_labels(cases(planted)[0]), group="carpals")
    centre = f"{(columns.start + columns.stop) // 2},{(rows.start + rows.stop) // 2}"
    page = open_page(f"{address}/?first=data&second=sub.csv&at={centre},2.6")
    shown(page)
    page.locator(".mean b", has_text="0.").wait_for()
    picture(page, "viewer-difference")


def test_borders_on_which_both_agree_have_no_colour(address: str, open_page: Open) -> None:
    def coloured(second: str) -> int:
        page = open_page(f"{address}/?first=data&second={second}")
        shown(page)
        page.locator(".mean b", has_text=".").wait_for()
        page.wait_for_timeout(300)
        return page.locator("canvas").evaluate(
            """(canvas) => {
              const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
              let count = 0;
              for (let i = 0; i < data.length; i += 4)
                count += Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]) > 60;
              return count;
            }"""
        )

    assert coloured("truth.csv") == 0
    assert coloured("sub.csv") > 200


def test_clicked_bone_is_chosen_and_brought_near(address: str, open_page: Open) -> None:
    page = open_page(address)
    shown(page)
    page.locator('[data-bone="Lunate"]').click()
    asked(page, chosen="Lunate")
    assert "chosen" in page.locator('[data-bone="Lunate"]').get_attribute("class")
    page.wait_for_function("new URL(location).searchParams.get('at')?.split(',')[2] > 1")
    page.keyboard.press("f")
    asked(page, at=None, chosen="Lunate")


def test_what_a_link_is_about_stays_in_the_address(address: str, open_page: Open) -> None:
    page = open_page(f"{address}/?first=data&at=500,700,1.3")
    shown(page)
    page.set_viewport_size({"width": 1200, "height": 700})
    page.keyboard.press("i")
    asked(page, invert="1", at="500,700,1.3")


def test_keys_walk_through_images_and_ways_to_look(address: str, planted: Path, open_page: Open) -> None:
    first, second = (case.name for case in cases(planted)[:2])
    page = open_page(address)
    shown(page, first)
    page.keyboard.press("ArrowRight")
    shown(page, second)
    asked(page, case=second)
    page.keyboard.press("ArrowLeft")
    shown(page, first)
    page.keyboard.press("o")
    asked(page, style="fill")
    page.keyboard.press("c")
    asked(page, compare="first")
    page.keyboard.press("i")
    asked(page, invert="1")
    page.keyboard.press("?")
    page.get_by_text("undo the last decision").wait_for()


def test_link_opens_the_same_picture(address: str, planted: Path, open_page: Open) -> None:
    name = cases(planted)[3].name
    link = (
        f"{address}/?case={name}&first=sub.csv&second=data&both=1&style=fill&compare=swipe&bones=Radius,Ulna"
        "&window=20-200&gamma=1.5&invert=1&opacity=0"
    )
    page = open_page(link)
    shown(page, name)
    page.wait_for_timeout(600)
    assert parse_qs(urlsplit(page.url).query) == parse_qs(urlsplit(link).query)
    assert page.locator("canvas").count() == 2
    assert page.locator('.tick[aria-label="show Radius"]').get_attribute("aria-checked") == "true"
    assert page.locator('.tick[aria-label="show Lunate"]').get_attribute("aria-checked") == "false"


def test_window_and_wheel_act_on_the_picture_at_once(address: str, open_page: Open) -> None:
    page = open_page(f"{address}/?style=none")
    shown(page)
    x, y = at(page, 512, 700)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -600)
    page.wait_for_function("new URL(location).searchParams.get('at')?.split(',')[2] > 1")
    page.mouse.down(button="right")
    page.mouse.move(x - 40, y - 30, steps=4)
    page.mouse.up(button="right")
    page.wait_for_function("new URL(location).searchParams.get('window') !== null")
    page.mouse.dblclick(*at(page, 10, 10))
    asked(page, at=None)


def test_windows_reach_beyond_that_of_a_dicom_file(serve: Callable[..., str], open_page: Open, tmp_path: Path) -> None:
    pixels = np.full((1024, 1024), 2000, np.uint16)
    pixels[:, 512:], pixels[0] = 3000, 0
    _dicom(pixels, tmp_path / "a.dcm", center=1000, width=500)
    address = serve(tmp_path)
    page = open_page(address)
    shown(page)
    assert [colour(page, x, 500)[0] for x in (300, 700)] == [255, 255]
    page = open_page(f"{address}/?window=-300-1200")
    shown(page)
    page.wait_for_timeout(300)
    # 2000 and 3000 are 637 and 1148 in 255ths of the file's window, 750 to 1250.
    assert [colour(page, x, 500)[0] for x in (300, 700)] == pytest.approx([159, 246], abs=2)
    asked(page, window="-300-1200")


def test_windows_can_be_drawn_over_pixels_that_lie_far_off_that_of_the_file(
    serve: Callable[..., str], open_page: Open, tmp_path: Path
) -> None:
    pixels = np.full((1024, 1024), 2000, np.uint16)
    pixels[:, 512:] = 2400
    _dicom(pixels, tmp_path / "a.dcm", center=4000, width=20)
    page = open_page(serve(tmp_path))
    shown(page)

    def drawn(left: int, right: int) -> None:
        """Wait until the two halves are drawn so."""
        for _ in range(100):
            seen = [colour(page, x, 500)[0] for x in (300, 700)]
            if seen == pytest.approx([left, right], abs=2):
                return
            page.wait_for_timeout(100)
        assert seen == [left, right]

    drawn(0, 0)
    page.get_by_text("Tone", exact=True).click()
    darkest, brightest = page.get_by_label("darkest", exact=True), page.get_by_label("brightest", exact=True)

    def moved(slider: Any, share: float) -> None:
        slider.evaluate("(it, share) => (it.value = +it.min + share * (it.max - it.min), it.oninput())", share)

    # The pixels take the lower half of both sliders, and each tenth of it makes a difference.
    for share, right in ((0, 127), (0.1, 113), (0.2, 96)):
        moved(darkest, share)
        drawn(0, right)
    for share, right in ((0.8, 127), (0.6, 191), (0.3, 255)):
        moved(brightest, share)
        drawn(0, right)


def _dicom(pixels: np.ndarray, path: Path, center: float, width: float) -> None:
    content = Dataset()
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    content.SOPClassUID = content.file_meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
    content.SOPInstanceUID = content.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    content.Rows, content.Columns = pixels.shape
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
    content.BitsAllocated, content.BitsStored, content.HighBit, content.PixelRepresentation = 16, 12, 11, 0
    content.WindowCenter, content.WindowWidth = center, width
    content.PixelData = pixels.tobytes()
    content.save_as(path, enforce_file_format=True)


def test_pages_keep_what_is_compared_and_how_it_is_drawn(address: str, open_page: Open) -> None:
    page = open_page(f"{address}/?first=sub.csv&second=truth.csv")
    shown(page)
    page.keyboard.press("i")
    asked(page, invert="1")
    for name in ("Understand", "Check", "Augmentation"):
        page.get_by_role("link", name=name).click()
        page.wait_for_url(f"**/{name.lower()}?*")
        asked(page, first="sub.csv", second="truth.csv")
    page.get_by_role("link", name="Look").click()
    shown(page)
    asked(page, first="sub.csv", second="truth.csv", invert="1")


def test_what_has_the_focus_is_used_by_space(address: str, open_page: Open) -> None:
    page = open_page(address)
    shown(page)
    tick = page.locator('.tick[aria-label="show Lunate"]')
    tick.focus()
    for checked in ("false", "true"):
        page.keyboard.press(" ")
        page.locator(f'.tick[aria-label="show Lunate"][aria-checked="{checked}"]').wait_for()
    tick.click()
    page.keyboard.press(" ")  # of a mouse there is no focus: the bare image
    page.wait_for_timeout(300)
    assert tick.get_attribute("aria-checked") == "false"


def test_small_bones_are_in_sight_and_no_key_frames_the_page(address: str, open_page: Open) -> None:
    page = open_page(f"{address}/?first=data&second=sub.csv", "laptop")
    shown(page)
    page.locator(".mean b", has_text="0.").wait_for()
    seen = page.locator(".list").bounding_box()
    for bone in ("Radius", "Lunate", "Pisiform"):
        row = page.locator(f'[data-bone="{bone}"]').bounding_box()
        assert row["y"] + row["height"] <= seen["y"] + seen["height"]
    edge = {"x": 0, "y": 100, "width": 6, "height": 500}
    before = page.screenshot(clip=edge)
    page.locator('[data-bone="Lunate"]').click()
    for bone in ("Triquetrum", "Pisiform", "finger-1"):
        page.keyboard.press("ArrowDown")
        page.locator(f'.chosen[data-bone="{bone}"]').wait_for()
    page.wait_for_timeout(300)
    assert page.screenshot(clip=edge) == before


def test_one_sheet_is_open_at_a_time(address: str, open_page: Open) -> None:
    page = open_page(address)
    shown(page)
    page.locator(".tone summary").click()
    page.locator(".tone[open]").wait_for()
    page.get_by_role("button", name="Filter").click()
    page.get_by_text("Dice between").wait_for()
    assert page.locator(".tone[open]").count() == 0
    page.locator(".tone summary").click()
    page.locator(".tone[open]").wait_for()
    page.get_by_text("Dice between").wait_for(state="hidden")


def test_blink_says_what_is_in_sight(address: str, open_page: Open) -> None:
    page = open_page(f"{address}/?first=data&second=sub.csv&compare=blink")
    shown(page)
    for name in ("data", "sub.csv", "data"):
        page.locator(".caption", has_text=f"·  {name}").wait_for()
    page.keyboard.press("c")
    asked(page, compare=None)
    assert "·" not in page.locator(".caption").inner_text()


def test_a_size_that_nobody_gave_is_said_to_be_assumed(
    serve: Callable[..., str], planted: Path, open_page: Open
) -> None:
    sub = planted.parent / "truth.csv"
    page = open_page(serve(sub))
    page.locator(".status", has_text="2048 × 2048, size assumed").wait_for()
    page = open_page(serve(sub, "--size", "1024x1024"))
    page.locator(".status", has_text="1024 × 1024").wait_for()
    assert "assumed" not in page.locator(".status").inner_text()


def test_of_an_image_that_cannot_be_read_the_reader_says_all(
    serve: Callable[..., str], planted: Path, open_page: Open, tmp_path: Path
) -> None:
    root = shutil.copytree(planted, tmp_path / "data")
    cases(root)[0].image.write_bytes(b"")
    page = open_page(serve(root))
    page.locator(".note", has_text="is empty; expected an image").wait_for()
    assert "0 × 0" not in page.locator(".status").inner_text()
    page.keyboard.press("ArrowRight")
    shown(page, cases(root)[1].name)
    assert page.locator(".note").is_hidden()


def test_both_sides_of_a_pixel_are_told(address: str, open_page: Open) -> None:
    page = open_page(address)
    told = page.evaluate(
        "async () => (await import('/carpus/static/bar.js')).millimetres([0.1, 0.2])"
        " + '; ' + (await import('/carpus/static/bar.js')).millimetres([0.15, 0.15])"
    )
    assert told == "0.200 mm across, 0.100 mm down a pixel; 0.150 mm a pixel"


def test_both_hands_lie_side_by_side(address: str, open_page: Open, picture: Keep) -> None:
    page = open_page(f"{address}/?compare=swipe&style=fill&first=data&second=sub.csv")
    shown(page)
    page.get_by_text("Both hands").click()
    page.locator("canvas").nth(1).wait_for()
    page.locator(".mean b", has_text="0.").wait_for()
    attended = [pane.evaluate("pane => pane.classList.contains('attended')") for pane in page.locator(".pane").all()]
    assert attended == [True, False]
    page.locator("canvas").nth(1).hover()
    page.locator(".pane.attended").nth(0).wait_for()
    attended = [pane.evaluate("pane => pane.classList.contains('attended')") for pane in page.locator(".pane").all()]
    assert attended == [False, True]
    picture(page, "viewer-both")


def test_bones_that_are_not_there_hide_nothing(address: str, open_page: Open) -> None:
    page = open_page(f"{address}/?bones=Nope")
    shown(page)
    assert page.locator('.tick[aria-label="show Lunate"]').get_attribute("aria-checked") == "true"


def test_filters_and_orders_act_on_the_list(address: str, planted: Path, open_page: Open) -> None:
    page = open_page(address)
    shown(page)
    page.get_by_role("button", name="Measure all").click()
    page.get_by_role("button", name="Measured").wait_for()
    page.locator(".row .number", has_text="0.").first.wait_for()
    link = f"{address}/?labelled=missing&first=data&second=sub.csv"
    other = open_page(link)
    shown(other)
    assert other.locator(".row").count() == 1
    assert "1 bone missing" in other.locator(".status").inner_text()


def test_findings_come_with_their_picture(address: str, planted: Path, open_page: Open, picture: Keep) -> None:
    page = open_page(f"{address}/check")
    page.get_by_role("button", name="Check", exact=True).click()
    exchanged, missing = (case.name for case in cases(planted)[2:4])
    shown(page, exchanged)
    page.locator(".status", has_text="are exchanged").wait_for()
    # Both bones are picked out, and brought near.
    asked(page, case=exchanged, chosen="Capitate")
    page.wait_for_function("new URL(location).searchParams.get('at')?.split(',')[2] > 1")
    assert {row.get_attribute("data-bone") for row in page.locator(".bone.chosen").all()} == {"Capitate", "Lunate"}
    picture(page, "viewer-check")
    _click_row(page, 1)
    shown(page, missing)
    asked(page, case=missing, chosen="Pisiform")
    page.get_by_text("note", exact=False).first.click()
    asked(page, levels="error,warning,note")
    link = page.url
    page = open_page(link)
    shown(page, missing)
    page.wait_for_timeout(600)
    assert parse_qs(urlsplit(page.url).query) == parse_qs(urlsplit(link).query)
    page.get_by_role("link", name="Look").click()
    shown(page, missing)


def test_findings_say_what_is_wrong_on_a_laptop(address: str, open_page: Open, picture: Keep) -> None:
    page = open_page(f"{address}/check", "laptop")
    checked, table = page.get_by_role("button", name="Check", exact=True), page.locator('[data-testid="stDataFrame"]')
    checked.or_(table).first.wait_for()
    if checked.is_visible():
        checked.click()
    shown(page)
    picture(page, "viewer-check-laptop")
    heads = table.locator('[role="columnheader"]').all_text_contents()
    assert heads[:2] == ["kind", "what"]
    # A head and the rows of the two findings, and no room for an empty one.
    assert 3 * 31 <= table.bounding_box()["height"] < 4 * 31


def test_a_link_names_the_folder_that_is_checked(
    serve: Callable[..., str], planted: Path, pseudo: Path, open_page: Open
) -> None:
    page = open_page(f"{serve(planted, pseudo)}/check")
    page.get_by_role("combobox", name="Data").click()
    page.get_by_role("option", name="pseudo").click()
    asked(page, folder="pseudo")
    page = open_page(page.url)
    page.get_by_text("annotation of pseudo is read").wait_for()


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
    told = page.get_by_text("Hand axis, degrees")
    told.wait_for(state="attached")
    assert told.evaluate("(text) => getComputedStyle(text).fill") == "rgb(154, 165, 176)"
    picture(page, "viewer-understand")
    _click_row(page, 0)
    shown(page)
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
    shown(page)
    labelled = cases(pseudo)
    counts = [_left_out(pseudo, case) for case in labelled]
    first = labelled[max(range(len(labelled)), key=lambda n: len(counts[n]))]
    shown(page, first.name)
    left_out = max(counts, key=len)
    assert page.locator(".row .out").all_inner_texts() == [f"{n} out" for n in sorted(map(len, counts), reverse=True)]
    assert set(left_out) == {row.get_attribute("data-bone") for row in page.locator(".bone.left-out").all()}
    total = sum(map(len, counts))
    page.locator(".selection summary", has_text=f"{2 * len(BONES) - total} of {2 * len(BONES)} bones kept").click()
    page.locator(".selection code").nth(1).wait_for()
    bone, measures = next((bone, each.measures) for bone, each in left_out.items() if each.reasons == ("agreement",))
    page.locator(f'[data-bone="{bone}"]').click()
    page.locator(".measures .against", has_text=f"agreement{measures['agreement']:.3g}").wait_for()
    page.keyboard.press("f")
    found = trust.read(pseudo, first.name, images.size(first.image), BONES)
    assert found is not None
    doubtful = kernels.decode([found.doubtful], images.size(first.image)) > 0
    x, y = middle(doubtful)
    page.wait_for_timeout(300)
    before = colours(page, x, y)
    assert len(before & {(0, 0, 0), (255, 255, 255)}) < 2
    page.keyboard.press("d")
    asked(page, doubt="1")
    page.wait_for_timeout(300)
    assert {(0, 0, 0), (255, 255, 255)} <= colours(page, x, y)
    page.keyboard.press("z")
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
    paper = body.evaluate("(body) => getComputedStyle(body).backgroundColor")
    assert max(map(int, paper.removeprefix("rgb(").removesuffix(")").split(","))) < 64
