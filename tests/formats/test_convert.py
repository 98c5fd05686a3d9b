import itertools
import json
import warnings
import zipfile

import numpy as np
import pytest
from broken import scrambled, survives
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_maps import CLASSES, bones, label_maps

from carpus import labels
from carpus.errors import ConfigError, DataError, DataWarning
from carpus.formats import Labelled, annotations, images
from carpus.formats.convert import FORMATS, convert, guess
from carpus.formats.sizes import Sizes
from carpus.labels import BONES

NAMES = {
    "competition": "comp",
    "submission": "s.csv",
    "coco": "c.json",
    "labelme": "lm",
    "masks": "ms",
    "dicomseg": "seg",
}
NAME = "ID001/image1661130828152_R.png"


def put(folder, name, items, classes=CLASSES):
    """Files of the format `name`, written by its own writer."""
    path = folder / NAMES[name]
    FORMATS[name].write_all(path, items, classes)
    return path


@pytest.mark.parametrize(("first", "second"), list(itertools.product(FORMATS, FORMATS)))
def test_every_format_becomes_every_other_pixel_for_pixel(tmp_path_factory, first, second):
    # highdicom takes 50 ms to describe 29 segments.
    @settings(
        max_examples=3 if "dicomseg" in (first, second) else 12, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(label_map=label_maps(largest=20))
    def check(label_map):
        folder = tmp_path_factory.mktemp("pair")
        images.write(folder / "images" / NAME, np.zeros(label_map.shape, np.uint8))
        source = put(folder, first, [Labelled(NAME, label_map)])
        target = folder / "out" / NAMES[second]
        options = {"images": folder / "images", "classes": CLASSES}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            summary = convert(source, target, target_format=second, **options)
            assert (summary.source_format, summary.target_format, summary.images) == (first, second, 1)
            assert guess(target, CLASSES) == second
            (back,) = FORMATS[second].read_all(target, CLASSES, Sizes(folder / "images"))
        assert back.name == NAME
        assert np.array_equal(back.labels, label_map)
        missing = {label for k, label in enumerate(CLASSES) if not labels.has(label_map, k).any()}
        assert set(summary.empty) == missing

    check()


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(
    height=st.sampled_from([1, 2, 255, 1021, 2048]),
    width=st.sampled_from([1, 3, 64, 700, 2048]),
    seed=st.integers(0, 9),
)
def test_maps_of_any_size_go_through_every_format_and_back(tmp_path_factory, height, width, seed):
    label_map = bones(max(height, width), seed)[:height, :width]
    source = put(tmp_path_factory.mktemp("from"), "competition", [Labelled(NAME, label_map)], BONES)
    for name in ("coco", "labelme", "masks", "submission", "competition"):
        target = tmp_path_factory.mktemp("to") / NAMES[name]
        convert(source, target, target_format=name, size=(height, width))
        source = target
    (back,) = FORMATS["competition"].read_all(source, BONES, Sizes(size=(height, width)))
    assert np.array_equal(back.labels, label_map)


def test_all_29_bones_at_2048_go_through_every_format_and_back(tmp_path):
    label_map = bones()
    source = put(tmp_path, "competition", [Labelled(NAME, label_map)], BONES)
    for step, name in enumerate(["submission", "coco", "labelme", "masks", "competition", "submission"]):
        target = tmp_path / str(step) / NAMES[name]
        summary = convert(source, target, target_format=name, size=(2048, 2048))
        assert dict(summary.empty) == {"finger-8": 1}
        source = target
    (back,) = FORMATS["submission"].read_all(source, BONES, Sizes(size=(2048, 2048)))
    assert np.array_equal(back.labels, label_map)


def some(count=3):
    rng = np.random.default_rng(0)
    planes = [rng.random((3, 9, 8)) < 0.4 for _ in range(count)]
    return [Labelled(f"ID{i // 2:03}/image{i}.png", labels.pack(plane)) for i, plane in enumerate(planes)]


def test_a_folder_of_images_gives_a_submission_its_folders_back(tmp_path):
    items = some()
    for item in items:
        images.write(tmp_path / "DCM" / item.name, np.zeros(item.size, np.uint8))
    source = put(tmp_path, "submission", items)
    convert(source, tmp_path / "out", images=tmp_path / "DCM", classes=CLASSES)
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.json"))
    assert written == [f"outputs_json/{item.name[:-4]}.json" for item in items]
    content = json.loads((tmp_path / "out" / written[0]).read_text())
    assert (content["filename"], content["parent_path"]) == ("image0.png", "/ID000")


@pytest.mark.parametrize("below", ["", "train", "train/outputs_json", "train/outputs_json/ID000"])
def test_the_competition_layout_may_be_given_from_any_folder(tmp_path, below):
    items = some(2)
    for item in items:
        images.write(tmp_path / "data/train/DCM" / item.name, np.zeros(item.size, np.uint8))
    annotations.write_all(tmp_path / "data/train", items, CLASSES)
    options = {"images": tmp_path / "data/train/DCM"} if below.endswith("ID000") else {}
    summary = convert(tmp_path / "data" / below, tmp_path / "s.csv", classes=CLASSES, **options)
    assert (summary.source_format, summary.images) == ("competition", 2)


def test_the_images_beside_the_annotations_are_right_about_their_size_and_suffix(tmp_path):
    (item,) = some(1)
    annotations.write_all(tmp_path / "train", [item], CLASSES)
    images.write(tmp_path / "train/DCM/ID000/image0.jpg", np.zeros((30, 40), np.uint8))
    (back,) = annotations.read_all(tmp_path / "train", CLASSES, Sizes(size=(9, 8)))
    assert (back.name, back.size) == ("ID000/image0.jpg", (30, 40))


@pytest.mark.parametrize("name", ["competition", "submission"])
def test_files_that_do_not_tell_the_size_name_both_ways_out(tmp_path, name):
    source = put(tmp_path, name, some(1))
    with pytest.raises(DataError, match=r"\(--images DIR\) or their size \(--size HxW\)"):
        convert(source, tmp_path / "out.json", classes=CLASSES)
    assert not (tmp_path / "out.json").exists()


def test_progress_is_called_after_every_image(tmp_path):
    done = []
    convert(put(tmp_path, "coco", some(3)), tmp_path / "s.csv", classes=CLASSES, progress=done.append)
    assert done == [1, 2, 3]


def test_labels_to_skip_are_left_out(tmp_path):
    source = put(tmp_path, "labelme", some(2))
    summary = convert(source, tmp_path / "c.json", classes=CLASSES, skip=["Lunate"])
    assert summary.empty["Lunate"] == 2


@pytest.mark.parametrize("name", FORMATS)
def test_a_fault_in_the_last_image_leaves_nothing_behind(tmp_path, name):
    source = put(tmp_path, "labelme", some(3))
    (source / "ID001/image2.json").write_text("{}")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"image2.json: shapes: expected a list"):
        convert(source, tmp_path / ("out" + NAMES[name]), source_format="labelme", target_format=name, classes=CLASSES)
    assert sorted(tmp_path.iterdir()) == before


def test_a_fault_leaves_the_earlier_file_as_it_was(tmp_path):
    earlier = put(tmp_path, "submission", some(1)).read_bytes()
    source = put(tmp_path, "labelme", some(3))
    (source / "ID001/image2.json").write_text("{}")
    with pytest.raises(DataError):
        convert(source, tmp_path / "s.csv", classes=CLASSES)
    assert (tmp_path / "s.csv").read_bytes() == earlier


def test_a_file_is_replaced_by_one_of_its_own_format_only(tmp_path):
    source = put(tmp_path, "labelme", some(2))
    target = put(tmp_path, "submission", some(1))
    assert convert(source, target, classes=CLASSES).images == 2
    (tmp_path / "notes.csv").write_text("my,notes\n1,2\n")
    with pytest.raises(DataError, match=r"notes.csv: is there already and is something else, not submission"):
        convert(source, tmp_path / "notes.csv", classes=CLASSES)
    with pytest.raises(DataError, match=r"image0.json: is there already and is labelme, not coco"):
        convert(source, source / "ID000/image0.json", classes=CLASSES)
    with pytest.raises(DataError, match=r"lm: is there already; give a new or an empty folder"):
        convert(target, source, size=(9, 8), classes=CLASSES)
    with pytest.raises(DataError, match=r"s.csv: is there already; give a new or an empty folder"):
        convert(source, target, target_format="masks", classes=CLASSES)


def test_a_target_inside_the_source_does_not_feed_on_itself(tmp_path):
    source = put(tmp_path, "labelme", some(3))
    assert convert(source, source / "again", target_format="labelme", classes=CLASSES).images == 3


def test_47_two_images_of_one_base_name_are_no_submission(tmp_path):
    (item,) = some(1)
    source = put(tmp_path, "coco", [item, Labelled("ID009/image0.png", item.labels)])
    with pytest.raises(DataError, match=r"'image0.png' comes twice"):
        convert(source, tmp_path / "s.csv", classes=CLASSES)


@pytest.mark.parametrize("name", ["competition", "labelme"])
def test_47_images_whose_names_some_systems_take_for_one_are_refused(tmp_path, name):
    (item,) = some(1)
    twins = [Labelled("e\u0301.png", item.labels), Labelled("\u00c9.png", item.labels)]
    with pytest.raises(DataError, match="would be one file"):
        FORMATS[name].write_all(tmp_path / "out", twins, CLASSES)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("image", ["../a.png", "/a.png", "nul.png", "a\n.png"])
def test_43_46_names_that_lead_out_are_not_written(tmp_path, name, image):
    item = Labelled(image, labels.empty((2, 2)))
    if name == "submission" and image in ("../a.png", "/a.png"):
        FORMATS[name].write_all(tmp_path / "s.csv", [item], CLASSES)
        assert "\na.png,Radius" in (tmp_path / "s.csv").read_text()
        return
    with pytest.raises(DataError):
        FORMATS[name].write_all(tmp_path / NAMES[name], [item], CLASSES)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_48_an_archive_is_not_opened(tmp_path):
    path = tmp_path / "data.csv"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../evil.csv", "image_name,class,rle\n")
    with pytest.raises(DataError, match="is an archive; unpack it"):
        convert(path, tmp_path / "out", classes=CLASSES)
    with pytest.raises(DataError, match="archives are not written"):
        convert(put(tmp_path, "coco", some(1)), tmp_path / "out.zip", classes=CLASSES)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param({"a.txt": "hello"}, "is of no known format: expected the competition's", id="text"),
        pytest.param({"a.csv": "a,b\n"}, "is of no known format", id="another table"),
        pytest.param({"a.json": "{}"}, "is JSON of no known format", id="another object"),
        pytest.param({"a.json": "[1]"}, "is JSON of no known format", id="a list"),
        pytest.param({"a.json": "{"}, "not valid JSON", id="broken JSON"),
        pytest.param({"a/b.txt": "x", "c.png": "y"}, "holds no label files", id="folder of other things"),
        pytest.param({"a/b.csv": "x", "c.txt": "y"}, r"is a folder; give the file itself, such as .*b.csv", id="CSV"),
        pytest.param(
            {"a.json": '{"images": [], "categories": []}', "b.json": "{}"}, "holds COCO files; give one", id="COCO"
        ),
    ],
)
def test_what_is_no_label_file_is_named(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    source = tmp_path / next(iter(files)) if len(files) == 1 else tmp_path
    with pytest.raises(DataError, match=message):
        convert(source, tmp_path / "out", classes=CLASSES)


def test_a_missing_source_and_an_unknown_format_are_errors(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        convert(tmp_path / "none.csv", tmp_path / "out")
    source = put(tmp_path, "coco", some(1))
    with pytest.raises(ConfigError, match=r"format: expected competition, submission, .* has 'voc'"):
        convert(source, tmp_path / "out", target_format="voc")


def test_strict_mode_stops_at_a_doubt_and_leaves_nothing_behind(tmp_path):
    value = {"annotations": [{"label": "Radius", "points": [[0, 0], [8, 8], [8, 0], [0, 8]]}]}
    (tmp_path / "a.json").write_text(json.dumps(value))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        with pytest.raises(DataWarning, match="crosses itself"):
            convert(tmp_path / "a.json", tmp_path / "out", size=(9, 9))
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_any_scrambled_file_is_guessed_or_a_data_error(tmp_path, data):
    name = data.draw(st.sampled_from(["submission", "coco"]))
    valid = put(tmp_path, name, some(1))
    path = tmp_path / "scrambled"
    path.write_bytes(data.draw(scrambled(valid.read_bytes())))
    survives(lambda: convert(path, tmp_path / "out.csv", size=(9, 8), classes=CLASSES))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_23_utf_16_is_told(tmp_path, encoding):
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    (tmp_path / "a.json").write_bytes(mark + '{"annotations": []}'.encode(encoding))
    with pytest.raises(DataError, match="is UTF-16 text; save it as UTF-8"):
        guess(tmp_path / "a.json")
