"""Carpus from Python, and the guide's examples."""

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import carpus
from carpus import data
from carpus import labels as label_map
from carpus.errors import ConfigError, DataError
from carpus.labels import BONES, Classes
from carpus.predict import Predictor
from carpus.run import read as read_run

GUIDE = (Path(__file__).parents[1] / "docs" / "guide.md").read_text()
TWO = Classes(("a", "b"))


def test_importing_carpus_loads_nothing() -> None:
    code = "import sys, carpus; print(sorted({'numpy', 'torch', 'cv2', 'pandas'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
    assert {"load", "read", "score"} <= set(dir(carpus))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        carpus.lode  # noqa: B018


def test_a_loaded_run_finds_what_its_predictor_finds(trained: Path, dataset: Path) -> None:
    path = data.read(dataset).test[0].image
    labels = carpus.load(trained)(path)
    assert np.array_equal(labels.map, Predictor.of(read_run(trained))(carpus.read(path)))
    assert labels.classes == BONES


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), np.zeros((0, 4), np.uint8), 7])
def test_what_is_no_image_is_refused(trained: Path, wrong: object) -> None:
    with pytest.raises(DataError, match="image: expected uint8 of shape"):
        carpus.load(trained)(wrong)  # type: ignore[arg-type]


def test_no_run_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="load: expected at least one run folder"):
        carpus.load([], calibration=tmp_path / "c.json")


def test_labels_go_by_name() -> None:
    planes = np.zeros((2, 3, 4), bool)
    planes[1, 0] = True
    labels = carpus.Labels(label_map.pack(planes), TWO)
    assert np.array_equal(labels["b"], planes[1])
    assert (list(labels), "a" in labels, "b" in labels, "c" in labels) == (["b"], False, True, False)
    assert labels.areas == {"a": 0, "b": 4}
    assert repr(labels) == "Labels(3 x 4, 1 of 2 classes)"
    with pytest.raises(DataError, match="unknown class 'B'; did you mean b"):
        labels["B"]


def test_a_notebook_gets_a_picture() -> None:
    planes = np.zeros((2, 900, 700), bool)
    planes[0, 100:300, 100:300] = True
    labels = carpus.Labels(label_map.pack(planes), TWO, np.full((900, 700), 90, np.uint8))
    with Image.open(io.BytesIO(labels._repr_png_())) as shown:
        pixels = np.asarray(shown)
    assert max(pixels.shape) == 640
    assert (np.ptp(pixels.astype(int), axis=2) > 20).any()  # something coloured
    assert (pixels[-1, -1] == 90).all()
    assert "1 of 2 classes" in labels._repr_html_()


def test_a_score_is_the_competitions_dice() -> None:
    a, b = np.array([[1, 1, 3]], np.int32), np.array([[1, 0, 0]], np.int32)
    assert carpus.score(carpus.Labels(a, TWO), b) == pytest.approx({"a": 0.5, "b": 0}, abs=1e-4)
    assert carpus.score(b, b, TWO)["b"] == 1
    with pytest.raises(DataError, match="different classes"):
        carpus.score(carpus.Labels(a, TWO), carpus.Labels(a, BONES))
    with pytest.raises(DataError, match="truth: expected int32 of 2 dimensions, has list"):
        carpus.score(a, [[1, 0, 0]], TWO)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="prediction: a bit beyond class 1 is set"):
        carpus.score(np.full((1, 3), 4, np.int32), a, TWO)


def test_the_guides_examples_run(trained: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = data.read(dataset).test[0]
    (tmp_path / "DATA").symlink_to(dataset)
    for name in ("RUN", "RUN2"):
        (tmp_path / name).symlink_to(trained)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert len(blocks) == 4
    names: dict = {}
    for block in blocks:
        exec(block.replace("ID006/image1", case.name), names)
    assert names["both"].shape == names["image"].shape
    assert 0 <= names["mean"] <= 1
