"""Whole folders: ensembles and views through the command's own way, interruption, broken images, memory."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from carpus import data, predict, run, segment
from carpus import labels as label_map
from carpus.errors import ConfigError, DataError, DataWarning
from carpus.formats import images, submission
from carpus.labels import BONES, Classes
from carpus.models import Output
from carpus.postprocess import Calibration, Step
from carpus.predict import Ensemble, Options, Predictor
from carpus.segment import Beside
from carpus.tiles import Tiles
from carpus.views import views

FOUR = Classes(("a", "b", "c", "d"))


class Bright(nn.Module):
    """Every class is where the image is brighter than `level`, at a stride of 2."""

    def __init__(self, level: float = 0.5) -> None:
        super().__init__()
        self.level = level

    def forward(self, pictures: torch.Tensor) -> Output:
        grey = pictures * 0.168 + 0.124
        return Output((nn.functional.avg_pool2d(grey, 2).expand(-1, 4, -1, -1) - self.level) * 20)


def predictor(level: float = 0.5, **more) -> Predictor:
    return Predictor(Bright(level), image_size=64, classes=4, launcher=predict.fabric("cpu", "32"), **more)


@pytest.fixture
def picture() -> np.ndarray:
    random = np.random.default_rng(0)
    return np.kron(random.integers(0, 256, (8, 6)), np.ones((12, 12))).astype(np.uint8)


@pytest.mark.parametrize(
    "shown",
    [
        {"tiles": Tiles(32)},
        {"views": views(flip=True, turns_deg=[90, 180])},
        {"views": views(flip=True), "tiles": Tiles(32), "batch": 3},
        {"views": views(flip=True), "blend": "logits"},
    ],
)
def test_a_network_without_a_neighbourhood_sees_the_same_in_every_way(picture: np.ndarray, shown: dict) -> None:
    plain, other = predictor().logits(picture), predictor(**shown).logits(picture)
    assert torch.allclose(plain, other, atol=1e-4)


def test_turns_and_scales_find_the_same_bones(picture: np.ndarray) -> None:
    plain = predictor()(picture)
    other = predictor(views=views(turns_deg=[5, -5], scales=[1.5]))(picture)
    assert np.count_nonzero(plain != other) < 0.1 * plain.size


def test_an_ensemble_of_one_is_its_member(picture: np.ndarray) -> None:
    member = predictor()
    assert np.array_equal(Ensemble([member], FOUR)(picture), member(picture))


@pytest.mark.parametrize("blend", ["probabilities", "logits", "votes"])
@pytest.mark.parametrize("weights", [(), [0.1, 0.7, 1.0]])
def test_an_ensemble_of_equal_members_is_the_member(picture: np.ndarray, blend, weights) -> None:
    together, alone = Ensemble([predictor()] * 3, FOUR, blend=blend, weights=weights), Ensemble([predictor()], FOUR)
    for found in together.look(picture):
        assert torch.equal(found, alone.look(picture)[0])
    assert torch.equal(together.probabilities(together.look(picture)), alone.probabilities(alone.look(picture)))
    assert np.array_equal(together(picture), alone(picture))


@pytest.mark.parametrize("blend", ["probabilities", "logits", "votes"])
def test_weights_decide_class_by_class(picture: np.ndarray, blend) -> None:
    low, high = predictor(0.2), predictor(0.8)
    weights = np.array([[1, 1, 0, 1], [0, 0, 1, 1]])
    found = Ensemble([low, high], FOUR, blend=blend, weights=weights)(picture)
    for k, member in enumerate((low, low, high)):
        assert np.array_equal(label_map.has(found, k), label_map.has(member(picture), k))
    assert label_map.has(found, 3).sum() <= label_map.has(found, 0).sum()


def test_votes_need_a_majority_and_probabilities_do_not(picture: np.ndarray) -> None:
    members = [predictor(0.2), predictor(0.8), predictor(0.8)]
    voted = Ensemble(members, FOUR, blend="votes")(picture)
    assert np.array_equal(voted, members[1](picture))
    assert not np.array_equal(Ensemble(members, FOUR, blend="logits")(picture), voted)


def test_members_of_different_resolution_answer_together(picture: np.ndarray) -> None:
    coarse = Predictor(Bright(), image_size=32, classes=4, launcher=predict.fabric("cpu", "32"))
    together = Ensemble([predictor(), coarse], FOUR)
    assert together.look(picture)[0].shape == (1, 4, 32, 32)
    assert together(picture).shape == picture.shape


def test_calibration_moves_the_threshold_and_repairs_shapes(picture: np.ndarray) -> None:
    member = predictor()
    steps = {"a": Step(threshold=0.9), "b": Step(largest=True)}
    found = Ensemble([member], FOUR, calibration=Calibration(steps, FOUR))(picture)
    plain = member(picture)
    thresholds = torch.tensor([0.9, 0.5, 0.5, 0.5])
    assert np.array_equal(
        label_map.has(found, 0), label_map.has(predict.labels_of(member.logits(picture), thresholds, picture.shape), 0)
    )
    assert 0 < label_map.has(found, 1).sum() < label_map.has(plain, 1).sum()
    assert np.array_equal(label_map.has(found, 2), label_map.has(plain, 2))


@pytest.mark.parametrize(
    "wrong",
    [{"canvas": 100}, {"blend": "median"}, {"batch": 0}, {"views": ()}, {"precision": "64"}],
    ids=["canvas no multiple of 32", "unknown blend", "empty batch", "no view", "unknown precision"],
)
def test_options_that_cannot_be_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}: expected"):
        Options(**wrong)


@pytest.fixture
def folder(dataset: Path, tmp_path: Path) -> Path:
    """Four images in a flat folder."""
    made = tmp_path / "images"
    made.mkdir()
    for letter, case in zip("abcd", data.read(dataset).test, strict=True):
        shutil.copy(case.image, made / f"{letter}.png")
    return made


def test_an_interrupted_prediction_goes_on(
    trained: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, out = [run.read(trained)], tmp_path / "sub.csv"
    segment.segment(runs, folder, tmp_path / "whole.csv")

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment.segment(runs, folder, out, progress=stop)
    assert not out.exists()
    looked = []
    look = Ensemble.look
    monkeypatch.setattr(Ensemble, "look", lambda self, image: looked.append(1) or look(self, image))
    summary = segment.segment(runs, folder, out)
    assert (summary.images, summary.continued, len(looked)) == (4, 3, 1)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "sub.csv", "whole.csv"]


def test_an_image_that_changed_is_predicted_again(trained: Path, folder: Path, tmp_path: Path) -> None:
    runs, out = [run.read(trained)], tmp_path / "sub.csv"
    (folder / "d.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"d\.png"):
        segment.segment(runs, folder, out, strict=True)
    shutil.copy(folder / "a.png", folder / "d.png")
    images.write(folder / "b.png", images.read(folder / "c.png"))
    assert segment.segment(runs, folder, out).continued == 2
    found = submission.read(out, BONES, (96, 96))
    assert all(np.array_equal(x, y) for x, y in zip(found["b.png"], found["c.png"], strict=True))


def test_other_settings_do_not_go_on_from_these(trained: Path, folder: Path, tmp_path: Path) -> None:
    runs, out = [run.read(trained)], tmp_path / "sub.csv"
    (folder / "d.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"d\.png"):
        segment.segment(runs, folder, out, strict=True)
    with pytest.raises(DataError, match="another prediction left unfinished"):
        segment.segment(runs, folder, out, options=Options(views=views(flip=True)))


def test_a_broken_image_is_named_and_the_others_are_kept(trained: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    summary = segment.segment([run.read(trained)], folder, tmp_path / "sub.csv")
    assert summary.images == 3
    assert ["b.png" in str(fault) for fault in summary.faults] == [True]
    assert list(submission.read(tmp_path / "sub.csv", BONES, (96, 96))) == ["a.png", "c.png", "d.png"]


def test_other_weights_do_not_go_on_with_what_is_there(
    trained: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, target = [run.read(trained), run.read(trained)], tmp_path / "sub.csv"

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(segment, "_write", stopped)
        with pytest.raises(KeyboardInterrupt):
            segment.segment(runs, folder, target, options=Options(weights=(1, 2)))
    for weights in ((2, 1), (1, {"Lunate": 2}), ()):
        with pytest.raises(DataError, match=r"sub\.csv\.partial: "):
            segment.segment(runs, folder, target, options=Options(weights=weights))
    assert segment.segment(runs, folder, target, options=Options(weights=(1, 2))).continued == 4


def test_nothing_but_broken_images_is_an_error(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png: is empty"):
        segment.segment([run.read(trained)], tmp_path / "images", tmp_path / "sub.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_two_runs_with_everything_on(trained: Path, folder: Path, tmp_path: Path) -> None:
    runs = [run.read(trained), run.read(trained)]
    options = Options(
        canvas=96,
        tiles=Tiles(64),
        views=views(flip=True, turns_deg=[10]),
        blend="votes",
        batch=4,
        weights=(1, {"Lunate": 2}),
    )
    beside = Beside(tmp_path / "overlays", tmp_path / "probabilities")
    summary = segment.segment(runs, folder, tmp_path / "labels", options=options, beside=beside)
    assert (summary.images, summary.faults) == (4, [])
    for letter in "abcd":
        assert images.read(tmp_path / "overlays" / f"{letter}.png").shape == (96, 96)
        with np.load(tmp_path / "probabilities" / f"{letter}.npz") as kept:
            assert kept["probabilities"].shape[0] == len(kept["classes"]) == 29
            assert kept["probabilities"].dtype == np.float16
            assert kept["size"].tolist() == [96, 96]
            assert 0 <= kept["probabilities"].min() < kept["probabilities"].max() <= 1


def test_probabilities_are_those_the_labels_come_from(trained: Path, folder: Path, tmp_path: Path) -> None:
    runs = [run.read(trained)]
    hot = Calibration({name: Step(temperature=2.0) for name in BONES}, BONES)
    segment.segment(runs, folder, tmp_path / "sub.csv", calibration=hot, beside=Beside(probabilities=tmp_path / "p"))
    logits = Ensemble.of(runs).look(images.read(folder / "a.png"))[0]
    with np.load(tmp_path / "p" / "a.npz") as kept:
        found = torch.from_numpy(kept["probabilities"]).float()
    assert torch.allclose(found, torch.sigmoid(logits[0] / 2), atol=1e-3)
    assert not torch.allclose(found, torch.sigmoid(logits[0]), atol=1e-2)


def test_runs_of_other_classes_are_no_ensemble(trained: Path) -> None:
    one = run.read(trained)
    other = SimpleNamespace(path="other", classes=FOUR)
    with pytest.raises(ConfigError, match="other: has other classes"):
        Ensemble.of([one, other])  # type: ignore[list-item]


def test_an_even_number_of_runs_that_vote_is_doubted(trained: Path) -> None:
    runs = [run.read(trained), run.read(trained)]
    with pytest.warns(DataWarning, match="of 2 voters both must agree"):
        Ensemble.of(runs, options=Options(blend="votes"))
    # Warnings are errors here: means have no ties, and weights were thought about.
    Ensemble.of(runs)
    Ensemble.of(runs, options=Options(blend="votes", weights=(1, 2)))
    Ensemble.of(runs[:1], options=Options(blend="votes"))


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    """10,000 images through the same way with a network that costs nothing: a leak of one label map each would show."""
    encoded = tmp_path / "a.png"
    images.write(encoded, np.tile(np.arange(128, dtype=np.uint8), (128, 1)))
    (tmp_path / "images").mkdir()
    for n in range(10000):
        (tmp_path / "images" / f"{n:05}.png").hardlink_to(encoded)
    resident: list[int] = []

    def watch(done: int, _: int) -> None:
        if done in (1000, 10000):
            status = Path("/proc/self/status").read_text().splitlines()
            resident.append(next(int(line.split()[1]) for line in status if line.startswith("VmRSS")))

    work, out = Ensemble([predictor()], FOUR), tmp_path / "sub.csv"
    summary = segment.segment_with(lambda: work, FOUR, tmp_path / "images", out, identity="tiny", progress=watch)
    assert summary.images == 10000
    # A label map of each is 64 KiB: 9,000 of them would be 562 MiB.
    assert resident[1] - resident[0] < 24 << 10


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("out", "overlays", "probabilities", "told"),
    [
        ("sub.csv", "images", None, "images: lies within .*images, where the images are"),
        ("sub.csv", "images/new", None, "new: lies within .*images, where the images are"),
        ("sub.csv", None, "images", "images: lies within .*images, where the images are"),
        ("images/labels", None, None, "labels: lies within .*images, where the images are"),
        ("sub.csv", "mine", None, r"mine.a\.png: is there already and is not an overlay by Carpus; it is not replaced"),
        ("sub.csv", None, "mine", r"mine.b\.npz: is there already and is not an archive of probabilities by Carpus"),
        ("labels", "labels", None, "labels: is, or lies within, .*labels, which is written as well"),
        ("sub.csv", "sub.csv.partial/x", None, r"x: is, or lies within, .*sub\.csv\.partial, which is written as well"),
        ("sub.csv", "mine/a.png", None, r"a\.png: is a file; expected a folder to write into"),
        ("mine/a.png/sub.csv", None, None, r"a\.png: is a file; expected a folder to write into"),
    ],
)
def test_nothing_is_written_over_images_or_files_of_others(
    trained: Path, folder: Path, tmp_path: Path, out: str, overlays: str | None, probabilities: str | None, told: str
) -> None:
    images.write(tmp_path / "mine/a.png", np.zeros((8, 8), np.uint8))
    (tmp_path / "mine/b.npz").write_bytes(b"somebody's")
    before = content(tmp_path)
    beside = Beside(*(tmp_path / name if name else None for name in (overlays, probabilities)))
    with pytest.raises(DataError, match=told):
        segment.segment([run.read(trained)], folder, tmp_path / out, beside=beside)
    assert content(tmp_path) == before


def test_an_image_alone_is_not_replaced_by_its_overlay(trained: Path, folder: Path, tmp_path: Path) -> None:
    beside, one = Beside(tmp_path / "overlays"), [run.read(trained)]
    segment.segment(one, folder / "a.png", tmp_path / "sub.csv", beside=beside)
    before = content(tmp_path)
    with pytest.raises(DataError, match=r"a\.png: is one of the images"):
        segment.segment(one, tmp_path / "overlays/a.png", tmp_path / "more.csv", beside=beside)
    assert content(tmp_path) == before


def test_what_carpus_wrote_beside_is_replaced(trained: Path, folder: Path, tmp_path: Path) -> None:
    beside = Beside(tmp_path / "overlays", tmp_path / "probabilities")
    segment.segment([run.read(trained)], folder, tmp_path / "sub.csv", beside=beside)
    before = content(tmp_path)
    images.write(folder / "a.png", 255 - images.read(folder / "a.png"))
    segment.segment([run.read(trained)], folder, tmp_path / "sub.csv", beside=beside)
    changed = {name for name, of in content(tmp_path).items() if of != before[name]}
    assert {"images/a.png", "overlays/a.png", "probabilities/a.npz"} <= changed <= {
        "images/a.png", "overlays/a.png", "probabilities/a.npz", "sub.csv"
    }  # fmt: skip


def test_a_file_of_others_with_the_name_of_a_journal_is_not_emptied(
    trained: Path, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "sub.csv.partial"
    other.write_bytes(b"\0" * 10000)
    with pytest.raises(DataError, match="another prediction left unfinished"):
        segment.segment([run.read(trained)], folder, tmp_path / "sub.csv")
    assert other.read_bytes() == b"\0" * 10000


def test_an_image_that_is_touched_after_its_prediction_is_written(trained: Path, folder: Path, tmp_path: Path) -> None:
    def touch(done: int, total: int) -> None:
        if done == total:
            for path in folder.iterdir():
                os.utime(path, ns=(1, 1))

    summary = segment.segment([run.read(trained)], folder, tmp_path / "sub.csv", progress=touch)
    assert (summary.images, summary.faults) == (4, [])
    assert list(submission.read(tmp_path / "sub.csv", BONES, (96, 96))) == ["a.png", "b.png", "c.png", "d.png"]


def test_an_image_that_changed_and_broke_is_not_told_as_it_was(trained: Path, folder: Path, tmp_path: Path) -> None:
    runs, out = [run.read(trained)], tmp_path / "sub.csv"

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment.segment(runs, folder, out, progress=stop)
    (folder / "a.png").write_bytes(b"broken")
    summary = segment.segment(runs, folder, out)
    assert (summary.images, summary.continued) == (3, 2)
    assert ["a.png" in str(fault) for fault in summary.faults] == [True]


@pytest.mark.parametrize("at", [0, 1], ids=["before any is read", "while others are read"])
def test_an_image_that_vanishes_is_named_and_the_others_are_written(
    trained: Path, folder: Path, tmp_path: Path, at: int
) -> None:
    def vanish(done: int, _: int) -> None:
        if done == at:
            (folder / "d.png").unlink()

    # Two images are read ahead of the first: the fourth is not among them.
    summary = segment.segment([run.read(trained)], folder, tmp_path / "sub.csv", progress=vanish)
    assert summary.images == 3
    assert [str(fault) for fault in summary.faults] == [
        f"{folder / 'd.png'}: cannot be read (No such file or directory)"
    ]


def test_an_image_that_vanished_before_it_is_stamped_is_a_fault(
    trained: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = images.find

    def found(*arguments, **more) -> list[Path]:
        listed = find(*arguments, **more)
        (folder / "b.png").unlink()
        return listed

    monkeypatch.setattr(images, "find", found)
    summary = segment.segment([run.read(trained)], folder, tmp_path / "sub.csv")
    assert (summary.images, summary.continued) == (3, 0)
    assert ["b.png" in str(fault) for fault in summary.faults] == [True]


def test_an_image_that_vanishes_before_its_segmentation_is_named(trained: Path, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    runs = [run.read(trained)]
    segment.segment(runs, folder, tmp_path / "seg", target_format="dicomseg")
    for path in folder.iterdir():
        path.unlink()
    for letter in "ab":
        shutil.copy(tmp_path / "seg" / f"{letter}.source.dcm", folder / f"{letter}.dcm")
    images.write(folder / "c.png", np.zeros((8, 8), np.uint8))
    images.write(folder / "d.png", np.zeros((8, 8), np.uint8))

    def vanish(names: str, done: int, total: int) -> None:
        if done == total:
            for name in names.split():
                (folder / name).unlink()

    out = tmp_path / "out"
    summary = segment.segment(
        runs, folder, out, target_format="dicomseg", progress=lambda *now: vanish("a.dcm c.png", *now)
    )
    assert summary.images == 2
    assert [str(fault).removeprefix(f"{folder}/")[:22] for fault in summary.faults] == [
        "a.dcm: cannot be read ", "c.png: cannot be read "
    ]  # fmt: skip
    assert sorted(content(out)) == ["b.dcm", "d.dcm", "d.source.dcm"]
    with pytest.raises(DataError, match=r"b\.dcm: cannot be read"):
        segment.segment(
            runs, folder, tmp_path / "all", target_format="dicomseg", progress=lambda *now: vanish("b.dcm d.png", *now)
        )
    assert not (tmp_path / "all").exists()
    assert not list(tmp_path.glob(".*"))


def test_segmentations_are_left_out_and_secondary_captures_are_the_radiographs_they_show(
    trained: Path, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("highdicom")
    runs = [run.read(trained)]
    images.write(folder / "d.png", images.read(folder / "d.png") // 2 + 30)  # of a range that is not the whole
    segment.segment(runs, folder, tmp_path / "seg", target_format="dicomseg")
    segment.segment(runs, folder, tmp_path / "sub.csv")
    summary = segment.segment(runs, tmp_path / "seg", tmp_path / "again.csv")
    assert [str(fault) for fault in summary.faults] == [
        f"{tmp_path / 'seg' / letter}.dcm: SOPClassUID: is Segmentation Storage; expected a radiograph"
        for letter in "abcd"
    ]
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "sub.csv").read_text().replace(".png", ".source.png")


def test_what_is_no_image_takes_no_name_from_one(trained: Path, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    runs = [run.read(trained)]
    segment.segment(runs, folder, tmp_path / "whole.csv")
    segment.segment(runs, folder / "a.png", tmp_path / "seg", target_format="dicomseg")
    shutil.copy(tmp_path / "seg" / "a.dcm", folder / "a.dcm")
    (folder / "sub").mkdir()
    (folder / "sub" / "B.tif").write_bytes(b"")
    # In a submission, whose names have no folders, two files take the name of another image; in a folder, one.
    for target, left_out in ((tmp_path / "sub.csv", ["a.dcm", "B.tif"]), (tmp_path / "labels", ["a.dcm", "B.tif"])):
        summary = segment.segment(runs, folder, target)
        assert summary.images == 4
        assert [str(fault).split(": ")[0].rsplit("/", 1)[-1] for fault in summary.faults] == left_out
    assert (tmp_path / "sub.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    with pytest.raises(DataError, match=r"a\.dcm: SOPClassUID: is Segmentation Storage"):
        segment.segment(runs, folder, tmp_path / "strict.csv", strict=True)
