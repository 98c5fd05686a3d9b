"""What the browser is sent."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from carpus import data, kernels
from carpus.errors import DataError
from carpus.formats import images
from carpus.labels import BONES
from carpus.viewer import packets, sources
from carpus.viewer.packets import Packets
from carpus.viewer.sources import Workspace


@pytest.fixture(scope="module")
def workspace(dataset: Path) -> Workspace:
    return sources.open_paths([dataset])


def test_an_image_is_its_size_and_its_pixels(workspace: Workspace) -> None:
    content = np.frombuffer(Packets(workspace).image(0), np.uint8)
    *size, depth, black, white, lowest, highest = content[:28].view("<i4").tolist()
    assert (depth, black, white) == (1, 0, 255)
    pixels = images.read(workspace.entries[0].image or "")
    assert (lowest, highest) == (pixels.min(), pixels.max())
    np.testing.assert_array_equal(content[28:].reshape(size), pixels)


def test_an_image_keeps_its_sixteen_bits(tmp_path: Path) -> None:
    pixels = np.arange(5000, 5020, dtype=np.uint16).reshape(4, 5)
    images.write(tmp_path / "image.png", pixels)
    content = Packets(sources.open_paths([tmp_path])).image(0)
    assert np.frombuffer(content[:28], "<i4").tolist() == [4, 5, 2, 0, 65535, 5000, 5019]
    np.testing.assert_array_equal(np.frombuffer(content[28:], "<u2").reshape(4, 5), pixels)


def test_a_label_map_comes_back_from_its_packet(workspace: Workspace, dataset: Path) -> None:
    numbers = np.frombuffer(Packets(workspace).labels("data", 0), "<i4")
    height, width, count = numbers[:3]
    ends = np.cumsum(numbers[3 : 3 + count])
    pairs = numbers[3 + count :].reshape(-1, 2).astype(np.int64)
    runs = np.split(pairs, ends[:-1])
    truth = data.read_labels(data.cases(dataset, "train")[0])
    np.testing.assert_array_equal(kernels.decode(runs, (height, width)), truth)


def test_memory_does_not_grow_with_what_was_looked_at(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets, "_IMAGES_KEPT", 2)
    monkeypatch.setattr(packets, "_MAPS_KEPT", 2)
    workspace = sources.open_paths([dataset])
    made = Packets(workspace)
    for place in range(len(workspace.entries)):
        made.image(place)
        made.labels("data", place)
    made.image(11)
    kept = (made._images, made._maps)
    held: list[OrderedDict[object, object]] = [of._found for of in kept]
    assert [list(of) for of in held] == [[10, 11], [("data", 10), ("data", 11)]]
    assert [of._making for of in kept] == [{}, {}]


def test_a_layer_agrees_with_itself(workspace: Workspace) -> None:
    found = Packets(workspace).compare("data", "data", 0)
    assert list(found) == list(BONES)
    assert all(of == {"dice": 1.0, "nsd": 1.0} for of in found.values())


def test_what_is_not_there_is_refused(workspace: Workspace) -> None:
    made = Packets(workspace)
    with pytest.raises(DataError, match="there are 12"):
        made.image(99)
    with pytest.raises(DataError, match="known: data"):
        made.labels("../../etc/passwd", 0)


def test_a_failure_is_not_kept(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"no image")
    made = Packets(sources.open_paths([tmp_path]))
    with pytest.raises(DataError):
        made.image(0)
    images.write(tmp_path / "image.png", np.full((4, 5), 7, np.uint8))
    assert made.image(0)[28:] == bytes([7] * 20)
