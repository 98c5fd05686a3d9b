"""What `carpus pseudo` left out, as the viewer tells, filters and sorts it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from carpus.formats import images
from carpus.pseudo import make, trust
from carpus.viewer import facts, sources
from carpus.viewer.facts import Facts
from carpus.viewer.packets import Packets
from carpus.viewer.sources import Workspace
from carpus.viewer.view import View


@pytest.fixture(scope="module")
def workspace(pseudo: Path) -> Workspace:
    return sources.open_paths([pseudo])


def test_every_bone_tells_whether_it_is_kept_and_why_not(workspace: Workspace) -> None:
    told = workspace.selections["pseudo"].told(workspace.entries[2])
    assert told is not None
    assert told["summary"] == "2 of 29 bones left out: agreement 1, missing 1, place 1"
    assert told["bones"]["Ulna"]["kept"]
    assert told["bones"]["Ulna"]["why"] == "kept"
    assert told["bones"]["Lunate"]["why"] == "left out: agreement 0.61, not ≥ 0.9"
    radius = told["bones"]["Radius"]
    assert radius["why"] == "left out: missing, place 7.5, not ≤ 4"
    assert [(row["name"], row["value"], row["limit"], row["against"]) for row in radius["measures"]] == [
        ("missing", "yes", "", True),
        ("place", "7.5", "≤ 4", True),
    ]


def test_the_folder_tells_what_was_kept_and_where_it_comes_from(pseudo: Path, workspace: Workspace) -> None:
    origin = workspace.selections["pseudo"].origin()
    # What `carpus pseudo` said when it made the folder, whatever was written over its files since.
    assert origin["summary"] == "116 of 116 bones kept"
    assert "never measured out of fold" in origin["advice"]
    first = origin["sources"][0]
    assert first["path"] == str(pseudo.parent / "a.csv")
    assert first["hashes"].startswith(first["hash"])
    assert first["seen"] == "nobody knows which patients it saw"


def test_a_run_is_known_by_its_weights(dataset: Path, trained: Path, tmp_path: Path) -> None:
    make.make([trained], dataset / "test/DCM", tmp_path / "pseudo")
    (source,) = sources.open_paths([tmp_path / "pseudo"]).selections["pseudo"].origin()["sources"]
    assert f"{source['hash']}" in source["hashes"]
    assert "weights" in next(line for line in source["hashes"].splitlines() if line.startswith(source["hash"]))
    assert source["seen"] == "saw 2 patients"
    path = tmp_path / "pseudo" / "provenance.json"
    content = json.loads(path.read_text())
    for seen, told in ((["ID1", None], "saw 1 patient and others of whom nobody knows"), ([], "saw no patient")):
        content["sources"][0]["seen"] = seen
        path.write_text(json.dumps(content))
        (source,) = sources.open_paths([tmp_path / "pseudo"]).selections["pseudo"].origin()["sources"]
        assert source["seen"] == told


def test_lost_provenance_is_told_and_the_bones_remain(pseudo: Path, tmp_path: Path) -> None:
    root = shutil.copytree(pseudo, tmp_path / "pseudo")
    (root / "provenance.json").unlink()
    workspace = sources.open_paths([root])
    selection = workspace.selections["pseudo"]
    assert "provenance.json: is missing" in selection.origin()["summary"]
    told = selection.told(workspace.entries[1])
    assert told is not None
    assert told["bones"]["Lunate"]["why"] == "left out: agreement"


@pytest.mark.parametrize(
    ("view", "places"),
    [
        (View(left_out="yes"), [1, 2]),
        (View(left_out="no"), [0, 3]),
        (View(left_out="yes", bone="Radius"), [2]),
        (View(left_out="no", bone="Radius"), [0, 1, 3]),
        (View(order="left_out"), [2, 1, 0, 3]),
        (View(order="left_out", bone="Lunate"), [1, 2, 0, 3]),
        (View(order="agreement"), [2, 1, 0, 3]),
        (View(order="agreement", bone="Radius"), [0, 1, 3, 2]),
    ],
)
def test_images_are_filtered_and_sorted_by_what_was_left_out(
    workspace: Workspace, view: View, places: list[int]
) -> None:
    overview = workspace.selections["pseudo"].overview(workspace.entries)
    assert facts.choose(workspace, Facts.unknown(workspace), view, overview) == places


def test_images_without_pseudo_labels_pass_no_such_filter_and_come_last(dataset: Path, pseudo: Path) -> None:
    workspace = sources.open_paths([dataset, pseudo])
    assert list(workspace.selections) == ["pseudo"]
    overview = workspace.selections["pseudo"].overview(workspace.entries)
    unknown = Facts.unknown(workspace)
    assert facts.choose(workspace, unknown, View(left_out="no"), overview) == [8, 11]
    assert facts.choose(workspace, unknown, View(order="agreement"), overview)[:4] == [10, 9, 8, 11]


def test_a_damaged_file_is_named_and_the_rest_is_known(pseudo: Path, tmp_path: Path) -> None:
    root = shutil.copytree(pseudo, tmp_path / "pseudo")
    workspace = sources.open_paths([root])
    trust.path_of(root, workspace.entries[0].name).write_text("{}")
    overview = workspace.selections["pseudo"].overview(workspace.entries)
    assert "not a file of `carpus pseudo`" in overview.faults[0]
    assert len(overview.left_out) == 3


def test_doubtful_pixels_are_sent_as_a_map_of_one_class(workspace: Workspace, dataset: Path) -> None:
    packets = Packets(workspace)
    content = packets.doubt("pseudo", 0)
    assert content is not None
    numbers = np.frombuffer(content, "<i4")
    entry = workspace.entries[0]
    assert tuple(numbers[:4]) == (*images.size(entry.image or ""), 1, 2)
    assert numbers[4:].tolist() == [5, 3, 200, 4]
    assert Packets(sources.open_paths([dataset])).doubt("data", 0) is None
