"""What the viewer is given, and what it reads of it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from carpus import config, data, kernels
from carpus.errors import ConfigError, DataError
from carpus.formats import images, submission
from carpus.labels import BONES
from carpus.viewer import layers, sources


@pytest.fixture
def sub(dataset: Path, tmp_path: Path) -> Path:
    """A submission with the annotations of the training images."""
    cases = data.cases(dataset, "train")
    rows = ((submission.image_name(case.name), kernels.encode(data.read_labels(case), len(BONES))) for case in cases)
    submission.write(tmp_path / "sub.csv", rows, BONES)
    return tmp_path / "sub.csv"


def test_a_path_is_what_it_holds(dataset: Path, trained: Path, sub: Path, tmp_path: Path) -> None:
    kinds = [sources.kind_of(path) for path in (dataset, trained, sub, dataset / "train/DCM")]
    assert kinds == ["data", "run", "submission", "images"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds nothing to show"):
        sources.kind_of(tmp_path / "empty")
    with pytest.raises(DataError, match="no such file"):
        sources.kind_of(tmp_path / "absent")


def test_layers_give_the_same_labels_in_every_format(dataset: Path, sub: Path) -> None:
    workspace = sources.open_paths([sub, dataset])
    assert list(workspace.layers) == ["data", "sub.csv"]
    entry = workspace.entries[0]
    drawn, submitted = (layer.read(entry) for layer in workspace.layers.values())
    assert drawn is not None
    np.testing.assert_array_equal(drawn, submitted)
    assert drawn.shape == images.size(entry.image) == entry.size
    test = workspace.entries[-1]
    assert test.split == "test"
    assert workspace.layers["data"].has(test)
    assert not workspace.layers["sub.csv"].has(test)
    assert workspace.layers["sub.csv"].read(test) is None


def test_a_run_predicts_what_is_shown(dataset: Path, trained: Path) -> None:
    workspace = sources.open_paths([dataset, trained])
    entry = workspace.entries[0]
    found = workspace.layers["run"].read(entry)
    assert found is not None
    assert found.shape == entry.size
    assert workspace.layers["run"].read(entry) is found
    assert workspace.runs == {"run": trained}


def test_listing_reads_no_label_and_no_image(dataset: Path, sub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object) -> None:
        raise AssertionError("opened before it was shown")

    for module, name in ((layers.annotations, "read"), (sources.submission, "read"), (images, "read")):
        monkeypatch.setattr(module, name, opened)
    assert len(sources.open_paths([dataset, sub]).entries) == 12


def test_masks_without_images_are_shown_on_black(sub: Path, tmp_path: Path) -> None:
    submission.write(tmp_path / "alone.csv", [("a.png", [np.array([[5, 3]])] + [np.zeros((0, 2), int)] * 28)], BONES)
    workspace = sources.open_paths([tmp_path / "alone.csv"])
    assert [(entry.name, entry.image, entry.size) for entry in workspace.entries] == [("a", None, (2048, 2048))]


def test_the_size_of_masks_without_images_can_be_given(sub: Path, dataset: Path) -> None:
    size = images.size(data.cases(dataset, "train")[0].image)
    assert sources.open_paths([sub]).entries[0].assumed
    workspace = sources.open_paths([sub], size=size)
    entry = workspace.entries[0]
    assert (entry.size, entry.assumed) == (size, False)
    found = workspace.layers["sub.csv"].read(entry)
    assert found is not None
    np.testing.assert_array_equal(found, data.read_labels(data.cases(dataset, "train")[0]))
    assert not sources.open_paths([dataset, sub]).entries[0].assumed


def test_labels_in_json_are_told_how_to_be_shown(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text("{}")
    with pytest.raises(DataError, match=r"carpus convert .*/labels\.json labels\.csv"):
        sources.open_paths([tmp_path / "labels.json"])


def test_names_tell_paths_apart(dataset: Path, tmp_path: Path, sub: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/sub.csv").write_bytes(sub.read_bytes())
    workspace = sources.open_paths([dataset, sub, tmp_path / "b/sub.csv"])
    assert list(workspace.layers) == ["data", f"{tmp_path.name}/sub.csv", "b/sub.csv"]
    with pytest.raises(DataError, match="given twice"):
        sources.open_paths([dataset, dataset])


def test_what_is_broken_is_refused_by_its_reader_when_shown(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.csv").write_text("image_name,class,rle\nimage.png,Radius,1 2 3\n")
    workspace = sources.open_paths([dataset, tmp_path / "broken.csv"])
    with pytest.raises(DataError, match=r"broken\.csv: line 2"):
        workspace.layers["broken.csv"].read(workspace.entries[0])


def test_what_is_no_image_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "setup.sh").write_text("echo")
    with pytest.raises(DataError, match=r"setup\.sh: is text; expected PNG"):
        sources.open_paths([tmp_path / "setup.sh"])
    (tmp_path / "study.yaml").write_text("name: losses\narms: {}\n")
    with pytest.raises(ConfigError, match=r"study\.yaml: "):
        sources.open_paths([tmp_path / "study.yaml"])


def test_what_is_no_image_hides_none_of_its_name(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "data")
    pictures = tmp_path / "data" / "train" / "DCM"
    picture = next(pictures.rglob("*.png"))
    picture.with_suffix(".dcm").write_bytes(b"no image, and before its name in the alphabet")
    for path in (tmp_path / "data", pictures):
        workspace = sources.open_paths([path])
        assert picture in [entry.image for entry in workspace.entries]
        (fault,) = workspace.faults
        assert fault.startswith(f"{picture.with_suffix('.dcm')}: ")
    with pytest.raises(DataError, match=rf"{picture.stem}\.dcm: "):
        data.read(tmp_path / "data")


def test_recipes_are_those_given_those_of_runs_and_carpus_own(dataset: Path, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("augment: {rotation_deg: 7}\n")
    recipes = sources.open_paths([dataset, trained, tmp_path / "mine.yaml"]).recipes
    assert config.load([recipes["mine.yaml"]]).augment.rotation_deg == 7
    assert config.load([recipes["run"]]).train.steps == 3
    assert {"unet", "demo", "segformer_b1"} <= set(recipes)
    with pytest.raises(DataError, match="give images to try it on"):
        sources.open_paths([tmp_path / "mine.yaml"])


def test_links_that_lead_out_are_told(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "data/train/DCM/ID001").mkdir(parents=True)
    picture = next((dataset / "train/DCM").rglob("*.png"))
    (tmp_path / "data/train/DCM/ID001/out.png").symlink_to(picture)
    with pytest.raises(DataError, match=r"out\.png: is a link that leads out"):
        sources.open_paths([tmp_path / "data"])
    (tmp_path / "data/train/DCM/ID001/in.png").write_bytes(picture.read_bytes())
    workspace = sources.open_paths([tmp_path / "data"])
    assert [entry.name for entry in workspace.entries] == ["ID001/in"]
    assert "leads out" in workspace.faults[0]


def test_the_first_two_given_that_label_an_image_are_compared_first(
    dataset: Path, pseudo: Path, trained: Path, sub: Path, tmp_path: Path
) -> None:
    """`sub` labels the training images, `pseudo` the test images; `trained` and `dataset` label all."""

    def compared(*paths: Path) -> tuple[str, str]:
        return sources.open_paths(paths).compared()

    assert compared(dataset, sub, pseudo) == ("data", "sub.csv")
    assert compared(dataset, pseudo, sub) == ("data", "pseudo")
    assert compared(pseudo, sub, trained) == ("pseudo", "run")
    assert compared(sub, pseudo, dataset) == ("data", "sub.csv")  # of the two, the annotations are the truth
    assert compared(sub, trained, dataset) == ("sub.csv", "run")
    assert compared(pseudo, sub) == ("pseudo", "sub.csv")
    assert compared(dataset) == ("data", "")
    assert compared(dataset / "train/DCM") == ("", "")
    (tmp_path / "broken.csv").write_text("image_name,class,rle\nimage.png,Radius,1 2 3\n")
    assert compared(dataset, tmp_path / "broken.csv", pseudo) == ("data", "broken.csv")
