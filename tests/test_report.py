import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpus import labels as label_map
from carpus import pictures, report
from carpus.errors import ConfigError, DataError
from carpus.labels import BONES, Classes
from carpus.report import charts, document
from carpus.report.charts import ticks
from carpus.report.markup import element
from carpus.report.numbers import Curves

TWO = Classes(("Radius", "Ulna"), {"forearm": ("Radius", "Ulna")})
NASTY = "<script>alert(1)</script>\"'&"


def scored(dice: dict[tuple[str, str], Sequence[float]], classes: Classes = TWO) -> pd.DataFrame:
    """The tidy table of {(split, case): Dice by class}; every case is a patient of its own."""
    rows = [
        (case, f"patient of {case}", split, name, "dice", value)
        for (split, case), values in dice.items()
        for name, value in zip(classes, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["case", "patient", "split", "class", "metric", "value"])


def pictured(case: str, split: str, size: int = 60) -> report.Pictured:
    truth, prediction = label_map.empty((size, size)), label_map.empty((size, size))
    for labels, shift in ((truth, 0), (prediction, 2)):
        label_map.paint(labels, 0, np.ones((20, 15), bool), 25 + shift, 10)
        label_map.paint(labels, 1, np.ones((18, 12), bool), 30, 24 + shift)
    return report.Pictured(case, split, np.full((size, size), 90, np.uint8), truth, prediction)


class Page(HTMLParser):
    """What a browser would see of a page: tags with attributes, and the text; complains of tags left open."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def full(tmp_path):
    """A report with everything in it."""
    scores = scored(
        {
            ("val", "ID001/a"): (0.91, 0.81),
            ("val", "ID002/b"): (0.93, 0.85),
            ("val", "ID003/c"): (0.95, 0.83),
            ("test", "ID040/d"): (0.71, 0.61),
            ("test", "ID041/e"): (0.75, 0.63),
        }
    )
    report.write(
        tmp_path / "report.html",
        title="U-Net, run 7",
        lead="Trained on phantoms.",
        scores=scores,
        summary={"Public": 0.9592, "Medal": "silver"},
        metrics=pd.DataFrame(
            {
                "step": [10, 20, 30],
                "loss": [0.9, 0.5, 0.4],
                "val_dice": [np.nan, 0.7123, 0.7017],
                "learning_rate": [1e-3, 5e-4, 1e-4],
                "images_per_second": [11.0, 12.0, 13.0],
            }
        ),
        axes=pd.DataFrame(
            [
                ("t1", "train", 2.0),
                ("t2", "train", -3.0),
                ("t3", "train", 33.0),
                ("t4", "train", 4.0),
                ("ID001/a", "val", 5.0),
                ("ID040/d", "test", -35.0),
                ("ID041/e", "test", 31.0),
            ],
            columns=["case", "split", "axis_deg"],
        ),
        pictures=[pictured("ID001/a", "val"), pictured("ID041/e", "test")],
        facts={"Command": "carpus demo --seed 3", "Seed": 3, "torch": "2.13.0"},
        commands=["carpus predict run --out out.csv  # label maps", "carpus --help"],
        classes=TWO,
    )
    return Page(tmp_path / "report.html")


def test_every_value_is_on_the_page(full):
    headline = ["U-Net, run 7", "Trained on phantoms.", "0.8800", "0.6750", "−0.2050", "Public", "0.9592", "silver"]
    by_class = ["0.9300", "0.8300", "0.7300", "0.6200", "−0.2000", "−0.2100", "0.7100", "0.6100", "ID040/d"]
    learning = ["Best validation Dice 0.7123 at step 20; 0.7017 at the last, 30.", "12 images a second", "0.001"]
    poses = [
        "0.8600 of the 1 straight and 0.6750 of the 2 bent",
        "25 % of 4 training images, 0 % of 1 validation image",
    ]
    cases = ["Worst of 3: 0.8600", "Best of 2: 0.6900"]
    repeat = ["carpus demo --seed 3", "2.13.0", "carpus predict run --out out.csv", "# label maps"]
    missing = [value for value in headline + by_class + learning + poses + cases + repeat if value not in full.text]
    assert not missing


def test_the_learning_rate_has_a_curve():
    rates = np.array([4e-4, 2e-4, 0.0])
    unknown = np.full(3, np.nan)
    curves = Curves(np.array([0.0, 10.0, 20.0]), np.array([0.9, 0.5, 0.4]), unknown, rates, unknown)
    panel = str(charts.learning(curves)).split("Learning rate / 10⁻⁴")[1]
    drawn = re.search(r' d="([^"]+)" class="curve"', panel)
    assert drawn, panel
    highest, half, none = (float(number) for number in re.findall(r"[\d.]+", drawn[1])[1::2])
    assert highest < half < none
    assert none - half == pytest.approx(half - highest, abs=0.11)
    without = replace(curves, learning_rate=unknown)
    assert "Learning rate" not in str(charts.learning(without))


def test_every_case_has_its_mark_in_the_pose_figure(full):
    assert all(tip in full.text for tip in ("ID001/a: 5°, 0.8600", "ID040/d: 35°, 0.6600", "ID041/e: 31°, 0.6900"))


def test_nothing_is_asked_of_the_outside(full):
    without_pictures = re.sub(r"base64,[A-Za-z0-9+/=]+", "", full.source)
    assert not re.search(r"https?:|//|@import|url\(|<script|<link|<iframe|\shref=|\son\w+=", without_pictures, re.I)
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in full.all("img"))
    policy = next(meta["content"] for meta in full.all("meta") if meta.get("http-equiv"))
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_pictures_and_figures_have_names_for_who_cannot_see_them(full):
    assert len(full.all("img")) == 2
    assert (
        full.all("img")[0]["alt"] == "Validation case ID001/a, Dice 0.8600: whole hand, truth and prediction outlined"
    )
    ids = {attributes["id"] for _, attributes in full.tags if attributes.get("id")}
    figures = full.all("svg")
    assert len(figures) == 4
    assert all(set((figure["aria-labelledby"] or "").split()) <= ids for figure in figures)


def test_text_is_escaped_wherever_it_comes_from(tmp_path):
    nasty = Classes((NASTY, "Ulna\x00"), {f"g{NASTY}": (NASTY,)})
    case = f"{NASTY}/case"
    report.write(
        tmp_path / "report.html",
        title=NASTY,
        lead=NASTY,
        scores=scored({("val", case): (0.9, 0.8), ("test", "other"): (0.7, 0.6)}, nasty),
        summary={NASTY: NASTY},
        axes=pd.DataFrame({"case": [case], "split": ["val"], "axis_deg": [3.0]}),
        pictures=[pictured(case, "val")],
        facts={NASTY: NASTY, "Command": NASTY, "unpaired": "\ud800"},
        commands=[f"{NASTY} # {NASTY}"],
        classes=nasty,
    )
    page = Page(tmp_path / "report.html")
    assert not page.all("script")
    assert "Ulna\ufffd" in page.text
    assert "unpaired \ufffd" in page.text
    assert page.text.count(NASTY) > 15
    assert any(NASTY in (image["alt"] or "") for image in page.all("img"))


@given(st.text(), st.text())
def test_an_element_gives_its_text_and_attribute_back(content, value):
    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            self.found = dict(attrs)["title"]

        def handle_data(self, data):
            self.content = getattr(self, "content", "") + data

    reader = Reader()
    reader.feed(element("p", content, title=value))
    reader.close()
    for given_text, read in ((content, getattr(reader, "content", "")), (value, reader.found)):
        assert read == "".join("\ufffd" if is_control(character) else character for character in given_text)


def is_control(character: str) -> bool:
    return (ord(character) < 32 and character not in "\t\n\r") or 127 <= ord(character) < 160


def test_one_case_without_a_test_split_is_a_report(tmp_path):
    report.write(tmp_path / "report.html", title="One", scores=scored({("val", "only"): (0.5, 0.7)}), classes=TWO)
    page = Page(tmp_path / "report.html")
    assert "Mean Dice 0.6000 on 1 validation image." in page.text
    assert "1 images" not in page.text
    assert "Test" not in page.text
    assert "95 %" not in page.text


def test_only_a_case_with_a_picture(tmp_path):
    scores = scored({("test", "only"): (0.5, 0.7)})
    report.write(tmp_path / "r.html", title="One", scores=scores, pictures=[pictured("only", "test")], classes=TWO)
    assert "Only case of 1: 0.6000" in Page(tmp_path / "r.html").text


def test_missing_values_are_left_out_and_counted(tmp_path):
    scores = scored({("val", "a"): (0.5, np.nan), ("val", "b"): (0.7, np.nan), ("test", "c"): (0.9, np.nan)})
    metrics = pd.DataFrame({"step": [1, 2], "loss": [np.nan, np.nan], "val_dice": [np.nan, np.nan]})
    axes = pd.DataFrame({"case": ["a", "c"], "split": ["val", "test"], "axis_deg": [np.nan, np.nan]})
    report.write(tmp_path / "r.html", title="t", scores=scores, metrics=metrics, axes=axes, classes=TWO)
    page = Page(tmp_path / "r.html")
    assert "0.6000 on 2 validation images" in page.text
    assert "Missing and left out: 3 values." in page.text
    assert "Without a value: Ulna" in page.text
    assert "no value" in page.text
    assert not re.search(r"\bnan\b", page.source, re.I)
    assert [figure["aria-labelledby"] for figure in page.all("svg")] == ["dice-by-class-title dice-by-class-text"]


def test_no_value_at_all_is_said(tmp_path):
    report.write(tmp_path / "r.html", title="t", scores=scored({("val", "a"): (np.nan, np.nan)}), classes=TWO)
    page = Page(tmp_path / "r.html")
    assert "No case was scored." in page.text
    assert not re.search(r"\bnan\b", page.source, re.I)
    assert report.choose(scored({("val", "a"): (np.nan, np.nan)}), TWO) == {"val": []}


def test_the_mean_is_over_images_then_classes(tmp_path):
    scores = scored({("val", "a"): (0.2, 1.0), ("val", "b"): (0.4, np.nan), ("val", "c"): (0.6, np.nan)})
    report.write(tmp_path / "r.html", title="t", scores=scores, classes=TWO)
    assert "Mean Dice 0.7000" in Page(tmp_path / "r.html").text


def test_best_median_and_worst_are_chosen_by_case():
    dice = {("val", name): (value, value) for name, value in zip("abcde", (0.3, 0.9, 0.5, 0.1, 0.7), strict=True)}
    scores = scored({**dice, ("test", "f"): (0.4, 0.4), ("test", "g"): (0.6, 0.6)})
    assert report.choose(scores, TWO) == {"val": ["b", "c", "d"], "test": ["g", "f"]}
    assert report.choose(scores, TWO, worst=3) == {"val": ["b", "c", "a", "d"], "test": ["g", "f"]}


def test_the_interval_is_over_patients_and_holds_the_mean(tmp_path):
    rng = np.random.default_rng(0)
    scores = scored({("val", f"case {i}"): rng.uniform(0.6, 0.9, 2).tolist() for i in range(12)})
    report.write(tmp_path / "r.html", title="t", scores=scores, classes=TWO)
    found = re.search(r"95 %: (0\.\d{4})–(0\.\d{4})", Page(tmp_path / "r.html").text)
    assert found
    mean = scores["value"].mean()
    assert float(found[1]) < mean < float(found[2])
    one = scores.assign(patient="the same")
    report.write(tmp_path / "r.html", title="t", scores=one, classes=TWO)
    assert "95 %" not in Page(tmp_path / "r.html").text


def test_six_pictures_of_full_size_are_below_three_megabytes(tmp_path):
    rng = np.random.default_rng(0)
    cases = [("val", "a"), ("val", "b"), ("val", "c"), ("test", "d"), ("test", "e"), ("test", "f")]
    noise = cv2.GaussianBlur(rng.integers(0, 255, (2048, 2048)).astype(np.uint8), (0, 0), 1.5)
    labels = label_map.empty((2048, 2048))
    for k in range(len(BONES)):
        label_map.paint(labels, k, np.ones((150, 90), bool), 200 + 50 * k, 300 + 40 * (k % 9))
    shown = [report.Pictured(case, split, noise, labels, np.roll(labels, 9, 0)) for split, case in cases]
    scores = scored({key: [0.9] * len(BONES) for key in cases}, BONES)
    report.write(tmp_path / "report.html", title="t", scores=scores, pictures=shown)
    page = Page(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 3e6
    assert len(page.all("img")) == 12
    assert "carpals 0.9000" in page.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="value"), "scores: columns: value missing"),
        (lambda table: table.assign(split="fold"), "scores: split: unknown 'fold', expected one of val, test"),
        (lambda table: table.assign(**{"class": "Femur"}), "scores: class: unknown 'Femur'"),
        (lambda table: table.assign(value=1.2), "scores: a, Radius: value: a Dice is 0 to 1, has 1.2"),
        (lambda table: table.assign(value="good"), "scores: value: expected numbers"),
        (lambda table: pd.concat([table, table]), "scores: a, val, Radius: there twice"),
    ],
)
def test_wrong_scores_are_named(tmp_path, change, message):
    with pytest.raises(DataError, match=re.escape(message)):
        report.write(tmp_path / "r.html", title="t", scores=change(scored({("val", "a"): (0.5, 0.7)})), classes=TWO)
    assert not list(tmp_path.iterdir())


def test_a_picture_without_scores_is_named(tmp_path):
    with pytest.raises(DataError, match="pictures: b, val: has no Dice"):
        report.write(
            tmp_path / "r.html",
            title="t",
            scores=scored({("val", "a"): (0.5, 0.7)}),
            pictures=[pictured("b", "val")],
            classes=TWO,
        )


def test_the_same_input_gives_the_same_file(tmp_path):
    scores = scored({("val", "a"): (0.5, 0.7)})
    for name in ("one.html", "two.html"):
        report.write(tmp_path / name, title="t", scores=scores, pictures=[pictured("a", "val")], classes=TWO)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


@given(st.floats(0, 0.98), st.floats(0.01, 1e5), st.integers(2, 8))
def test_ticks_are_round_few_and_inside(low, length, most):
    found = ticks(low, low + length, most)
    assert len(found) <= most + 1
    assert all(low - 1e-6 * length <= tick <= low + length * (1 + 1e-6) for tick in found)


def test_the_pictures_of_a_page_can_be_read_back(full):
    encoded = (full.all("img")[0]["src"] or "").split(",")[1]
    image = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape[:2] == (int(full.all("img")[0]["height"] or 0), int(full.all("img")[0]["width"] or 0))
    assert np.ptp(image.astype(int), axis=2).max() > 100
    assert pictures.TRUTH != pictures.PREDICTION


def test_a_page_is_dark_where_it_shall_be(tmp_path):
    document.document(tmp_path / "page.html", "Title", "words")
    page = (tmp_path / "page.html").read_text()
    assert "prefers-color-scheme: dark" in page
    dark = document.dark(page)
    assert "prefers-color-scheme" not in dark
    assert "light dark" not in dark


@pytest.mark.parametrize("content", ["arms: {}\n", "", "words about <html>"])
def test_what_is_no_page_is_not_replaced_by_one(tmp_path, content):
    there = tmp_path / "page.html"
    there.write_text(content)
    with pytest.raises(DataError, match=r"page\.html: is there already and is something else, no page"):
        document.document(there, "Title", "words")
    assert there.read_text() == content


@pytest.mark.parametrize("content", ["<!DOCTYPE html>\n<p>", "\ufeff  <html lang='en'>"])
def test_a_page_is_replaced_by_a_page(tmp_path, content):
    there = tmp_path / "page.HTM"
    there.write_text(content)
    document.document(there, "Title", "words")
    assert "words" in there.read_text()


def test_a_page_has_the_name_of_one(tmp_path):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        document.document(tmp_path / "folder.html", "Title", "words")
    for name in ("small.yaml", "page"):
        with pytest.raises(ConfigError, match=r"expected a name that ends in \.html"):
            document.document(tmp_path / name, "Title", "words")
        assert not (tmp_path / name).exists()
