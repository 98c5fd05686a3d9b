import csv
import warnings

import numpy as np
import pandas as pd
import pytest
from broken import scrambled, survives
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_maps import CLASSES, label_maps

from carpus.errors import DataError
from carpus.formats import submission
from carpus.kernels import decode, encode
from carpus.labels import Classes

GOOD = "image_name,class,rle\na.png,Radius,1 3\na.png,finger-1,\na.png,Lunate,5 2 9 1\n"


def read(tmp_path, text, size=(4, 5), **options):
    path = tmp_path / "s.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return submission.read(path, CLASSES, size, **options)


def rows(runs):
    return [of.tolist() for of in runs]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(maps=st.lists(label_maps(), min_size=1, max_size=3))
def test_reading_what_was_written_gives_every_pixel_back_in_order(tmp_path, maps):
    sizes = {f"image{9 - i}.png": label_map.shape for i, label_map in enumerate(maps)}
    written = zip(sizes, (encode(label_map, 3) for label_map in maps), strict=True)
    assert submission.write(tmp_path / "s.csv", written, CLASSES) == len(maps)
    back = submission.read(tmp_path / "s.csv", CLASSES, sizes.__getitem__)
    assert list(back) == list(sizes)
    for label_map, runs in zip(maps, back.values(), strict=True):
        assert np.array_equal(decode(runs, label_map.shape), label_map)


def test_the_file_is_the_competitions(tmp_path):
    runs = encode(np.array([[0, 1, 1], [4, 0, 1]], np.int32), 3)
    submission.write(tmp_path / "s.csv", [("image1.png", runs)], CLASSES)
    expected = "image_name,class,rle\nimage1.png,Radius,2 2 6 1\nimage1.png,finger-1,\nimage1.png,Lunate,4 1\n"
    assert (tmp_path / "s.csv").read_bytes() == expected.encode()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(GOOD, id="plain"),
        pytest.param(b"\xef\xbb\xbf" + GOOD.encode(), id="42 byte order mark"),
        pytest.param(GOOD.replace("\n", "\r\n"), id="42 CRLF"),
        pytest.param(GOOD.replace(",", ";"), id="42 semicolons"),
        pytest.param(b"\xef\xbb\xbf" + GOOD.replace(",", ";").replace("\n", "\r\n").encode(), id="42 all three"),
        pytest.param(GOOD.replace("finger-1,", "finger-1,NaN"), id="40 NaN"),
        pytest.param(GOOD.replace("finger-1,", "finger-1,nan"), id="40 nan"),
        pytest.param(GOOD.replace("a.png", '"a.png"') + "\n\n", id="quotes and blank lines"),
        pytest.param(GOOD.replace(",", " , "), id="blanks"),
        pytest.param("rle,image_name,class\n,a.png,finger-1\n1 3,a.png,Radius\n5 2 9 1,a.png,Lunate", id="any order"),
    ],
)
def test_ways_of_writing_one_submission(tmp_path, text):
    (name, runs), *others = read(tmp_path, text).items()
    assert name == "a.png"
    assert not others
    assert rows(runs) == [[[0, 3]], [], [[4, 2], [8, 1]]]


def test_40_what_pandas_makes_of_an_empty_mask_is_read(tmp_path):
    table = pd.DataFrame({"image_name": ["a.png"] * 3, "class": list(CLASSES), "rle": ["1 3", None, float("nan")]})
    table.to_csv(tmp_path / "p.csv", index=False, na_rep="NaN")
    assert rows(submission.read(tmp_path / "p.csv", CLASSES, (4, 5))["a.png"]) == [[[0, 3]], [], []]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "line 1: expected the columns .*, found nothing", id="empty file"),
        pytest.param("\n\n", "found nothing", id="blank file"),
        pytest.param("name,label,mask\na,b,c", "found name, label, mask", id="other columns"),
        pytest.param("image_name,class\na,b", "found image_name, class$", id="a column missing"),
        pytest.param("image_name,class,rle,rle\n", "found image_name, class, rle, rle", id="a column twice"),
        pytest.param(",image_name,class,rle\n", r"found , image_name.*to_csv\(index=False\)", id="pandas index"),
        pytest.param("image_name\tclass\trle\n", "expected the columns", id="tabs"),
        pytest.param(GOOD.replace("1 3", "1 3,4"), "line 2: expected 3 cells, has 4", id="a cell too many"),
        pytest.param(GOOD + "a.png\n", "line 5: expected 3 cells, has 1", id="39 a row cut off"),
        pytest.param(GOOD.rsplit("a.png", 1)[0], "a.png: no row for Lunate", id="39 a row missing"),
        pytest.param(GOOD + "a.png,Radius,\n", "line 5: a second row for a.png, Radius", id="39 a row twice"),
        pytest.param(GOOD + "a.png,Ring,\n", "line 5: class: unknown class 'Ring'", id="39 another class"),
        pytest.param(GOOD.replace("1 3", "1 3 4"), "line 2: rle: .*odd number", id="33"),
        pytest.param(GOOD.replace("1 3", "1 0"), "line 2: rle: run 0: .*count from 1", id="34"),
        pytest.param(GOOD.replace("9 1", "20 2"), "line 4: rle: run 1: 20 2 ends beyond", id="35"),
        pytest.param(GOOD.replace("9 1", "4 3"), "line 4: rle: run 1: 4 3 starts before", id="36"),
        pytest.param(GOOD.replace("1 3", "9223372036854775808 3"), "line 2: rle: .*ends beyond", id="37"),
        pytest.param(GOOD.replace("1 3", "=1+3"), "line 2: rle: .*whole numbers, has '=1\\+3'", id="41 a formula"),
        pytest.param(GOOD.replace("a.png", "../a.png"), "line 2: image_name: '../a.png' has a folder", id="43"),
        pytest.param(GOOD.replace("a.png", "..\\a.png"), "has a folder", id="43 backslash"),
        pytest.param(GOOD.replace("a.png", "/etc/a.png"), "has a folder", id="44"),
        pytest.param(GOOD.replace("a.png", "C:a.png"), "leads out of its folder", id="44 drive"),
        pytest.param(GOOD.replace("a.png", "a\0.png"), "is not a file name", id="46 NUL"),
        pytest.param(GOOD.replace("a.png", '"a\n.png"'), "is not a file name", id="46 newline"),
        pytest.param(GOOD.replace("a.png", "aux.png"), "not every system can hold", id="46 reserved"),
        pytest.param(GOOD.replace("a.png", "a.jpg"), "not a name that ends in .png", id="another suffix"),
        pytest.param(GOOD.replace("a.png", "ID001"), "not a name that ends in .png", id="no suffix"),
        pytest.param(GOOD.replace("a.png", ".png"), "not a name that ends in .png", id="suffix alone"),
        pytest.param(GOOD.replace("a.png", "a" * 300 + ".png"), "not every system can hold", id="too long"),
        pytest.param(GOOD.encode("utf-16"), "not UTF-8", id="UTF-16"),
        pytest.param(GOOD + '"a.png,Radius', "not a readable CSV", id="open quote"),
    ],
)
def test_faults_are_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 's.csv'}: ")


def test_39_images_that_are_missing_or_too_many_are_named(tmp_path):
    assert list(read(tmp_path, GOOD, expected=["a.png"])) == ["a.png"]
    with pytest.raises(DataError, match=r"s.csv: no rows for b.png, c.png, d.png and 1 more"):
        read(tmp_path, GOOD, expected=["a.png", "b.png", "c.png", "d.png", "e.png"])
    with pytest.raises(DataError, match=r"s.csv: rows for a.png, which is not expected here"):
        read(tmp_path, GOOD, expected=[])


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        submission.read(tmp_path / "none.csv", CLASSES, (4, 5))


def test_a_mask_of_a_hundred_thousand_runs_is_read(tmp_path):
    text = " ".join(f"{start} 1" for start in range(1, 200_001, 2))
    runs = read(tmp_path, GOOD.replace("1 3", text), size=(1000, 1000))["a.png"]
    assert len(runs[0]) == 100_000
    assert csv.field_size_limit() == 131072


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("\ta.png", "is not a file name"),
        ("ID001/a.png", "has a folder"),
        ("../a.png", "has a folder"),
        ("a.jpg", "ends in .png"),
    ],
)
def test_41_43_names_that_must_not_be_written(tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        submission.write(tmp_path / "s.csv", [(name, encode(np.zeros((1, 1), np.int32), 3))], CLASSES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["=a", "+a", "-1", "@a", "'=a", "''a", "'a", "a"])
def test_41_what_a_spreadsheet_would_compute_is_written_as_text_and_read_back(tmp_path, name):
    runs = encode(np.ones((1, 1), np.int32), 1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        submission.write(tmp_path / "s.csv", [(f"{name}.png", runs)], Classes((name,)))
    formula = name.lstrip("'")[0] in "=+-@"
    assert len(said) == 2 * formula
    cells = next(csv.reader([(tmp_path / "s.csv").read_text().splitlines()[1]]))
    assert all(cell[0] not in "=+-@" for cell in cells)
    back = submission.read(tmp_path / "s.csv", Classes((name,)), (1, 1))
    assert list(back) == [f"{name}.png"]


def test_39_an_image_twice_is_not_written_and_the_earlier_file_stays(tmp_path):
    (tmp_path / "s.csv").write_text(GOOD)
    runs = encode(np.zeros((1, 1), np.int32), 3)
    with pytest.raises(DataError, match=r"'a.png' comes twice"):
        submission.write(tmp_path / "s.csv", [("a.png", runs), ("a.png", runs)], CLASSES)
    assert (tmp_path / "s.csv").read_text() == GOOD
    assert len(list(tmp_path.iterdir())) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=scrambled(GOOD.encode()))
def test_scrambled_files_are_a_data_error_or_read(tmp_path, data):
    survives(lambda: read(tmp_path, data))
