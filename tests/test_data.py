"""Reading a data folder, folds, the cache, and batches as a pure function of (seed, step)."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from carpus import data
from carpus import labels as label_map
from carpus.augment import Settings
from carpus.batches import Batches
from carpus.data import Case, Dataset
from carpus.errors import DataError
from carpus.formats import images
from carpus.formats.metadata import Patient
from carpus.labels import BONES

SETTINGS = Settings(rotation_deg=30, scale=0.1, shift=0.05, flip=True, gamma=0.2, noise=0.02)


@pytest.fixture
def batches(dataset: Path) -> Batches:
    cases = data.read(dataset).train
    return Batches(cases, data.Cache(BONES, 64, 96, 1 << 30), SETTINGS, batch_size=3, seed=5)


def same(a: data.Batch, b: data.Batch) -> bool:
    return torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) and a.cases == b.cases


def test_a_data_folder_gives_its_cases_and_patients(dataset: Path) -> None:
    found = data.read(dataset)
    assert (len(found.train), len(found.test)) == (8, 4)
    assert [case.name for case in found.train] == sorted(case.name for case in found.train)
    assert all(case.annotation and case.name == f"{case.patient}/{case.image.stem}" for case in found.train)
    assert all(case.annotation and "test_labels" in case.annotation.parts for case in found.test)
    assert {found.patients[case.patient].sex for case in found.train} <= {"male", "female"}
    assert all(140 < (found.patients[case.patient].height_cm or 0) < 210 for case in found.train)


def test_a_missing_or_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothere: no such folder"):
        data.read(tmp_path / "nothere")
    with pytest.raises(DataError, match="no images below train/DCM"):
        data.read(tmp_path)


def test_a_patient_in_both_splits_is_a_leak(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "data")
    shutil.copytree(tmp_path / "data/train/DCM/ID001", tmp_path / "data/test/DCM/ID001")
    with pytest.raises(DataError, match="patient ID001 is in train and in test"):
        data.read(tmp_path / "data")


def test_the_same_image_of_two_patients_is_a_leak(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "data")
    first, *_, last = sorted((tmp_path / "data/train/DCM").rglob("*.png"))
    shutil.copy(first, last)
    with pytest.raises(DataError, match=r"the same image as .*leak"):
        data.fingerprint(data.read(tmp_path / "data").train)


def test_the_fingerprint_is_that_of_the_content_not_of_the_place(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "data")
    first = data.fingerprint(data.read(dataset).train)
    assert data.fingerprint(data.read(tmp_path / "data").train) == first
    next((tmp_path / "data/train/outputs_json").rglob("*.json")).write_text("{}")
    assert data.fingerprint(data.read(tmp_path / "data").train) != first


def cohort(count: int, known: bool = True) -> Dataset:
    names = [f"ID{number:03d}" for number in range(count)]
    cases = tuple(Case(f"{name}/{hand}", name, Path(), None) for name in names for hand in "ab")
    patients = {
        name: Patient("female" if number % 2 else "male", 150.0 + number % 40) for number, name in enumerate(names)
    }
    return Dataset(Path("data"), cases, (), patients if known else {})


@pytest.mark.parametrize("known", [True, False])
def test_folds_are_of_equal_size_and_hold_whole_patients(known: bool) -> None:
    dealt = data.folds(cohort(102, known), 5)
    sizes = [list(dealt.values()).count(fold) for fold in range(5)]
    assert sum(sizes) == 102
    assert max(sizes) - min(sizes) <= 1


def test_folds_are_alike_in_sex_and_height() -> None:
    found = cohort(100)
    dealt = data.folds(found, 5)
    women = [sum(found.patients[name].sex == "female" for name in dealt if dealt[name] == fold) for fold in range(5)]
    heights = [np.mean([found.patients[name].height_cm for name in dealt if dealt[name] == fold]) for fold in range(5)]
    assert max(women) - min(women) <= 1
    assert max(heights) - min(heights) < 2  # of 40 cm


def test_folds_follow_the_seed() -> None:
    assert data.folds(cohort(20), 5, seed=1) == data.folds(cohort(20), 5, seed=1)
    assert data.folds(cohort(20), 5, seed=1) != data.folds(cohort(20), 5, seed=2)


def test_too_few_patients_for_the_folds_is_said() -> None:
    with pytest.raises(DataError, match="3 training patients cannot make 5 folds"):
        data.folds(cohort(3), 5)


def test_a_batch_is_a_function_of_seed_and_step(batches: Batches, dataset: Path) -> None:
    later = Batches(data.read(dataset).train, data.Cache(BONES, 64, 96, 1), SETTINGS, batch_size=3, seed=5)
    assert same(later(4), batches(4))  # from a cache that holds nothing, without steps 0 to 3
    other = Batches(data.read(dataset).train, data.Cache(BONES, 64, 96, 1), SETTINGS, batch_size=3, seed=6)
    assert not same(other(4), batches(4))


def test_workers_give_the_batches_in_order(batches: Batches) -> None:
    ahead = list(batches.ahead(range(2, 7), workers=2))
    assert all(same(batch, batches(step)) for step, batch in zip(range(2, 7), ahead, strict=True))


def test_every_case_comes_once_an_epoch_in_a_new_order(dataset: Path) -> None:
    cases = data.read(dataset).train
    batches = Batches(cases, data.Cache(BONES, 64, 96, 1 << 30), SETTINGS, batch_size=4, seed=0)
    epochs = [[case.name for step in (2 * epoch, 2 * epoch + 1) for case in batches(step).cases] for epoch in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == [case.name for case in cases]
    assert epochs[0] != epochs[1]


def test_a_batch_has_the_sizes_asked_for(batches: Batches) -> None:
    batch = batches(0)
    assert (batch.images.shape, batch.images.dtype) == ((3, 1, 64, 64), torch.float32)
    assert (batch.labels.shape, batch.labels.dtype) == ((3, 96, 96), torch.int32)


def test_a_failure_in_a_worker_reaches_the_training(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "data")
    cases = data.read(tmp_path / "data").train
    for case in cases:
        case.image.write_bytes(case.image.read_bytes()[:100])
    batches = Batches(cases, data.Cache(BONES, 64, 96, 1 << 30), SETTINGS, batch_size=2, seed=0)
    with pytest.raises(DataError, match=r"\.png"):
        list(batches.ahead(range(3), workers=2))


def test_an_oblong_image_is_laid_in_a_square_with_its_labels(tmp_path: Path) -> None:
    image = np.full((20, 40), 200, np.uint8)
    labels = np.full((20, 40), 1 << 28, np.int32)
    assert data.square(image, 20)[:10].min() == 200
    assert data.square(image, 20)[10:].max() == 0
    assert label_map.area(data.square_labels(labels, 20), 29)[28] == 200


def test_a_case_without_annotation_is_named(dataset: Path) -> None:
    case = data.read(dataset).train[0]
    with pytest.raises(DataError, match="has no annotation"):
        data.read_labels(Case(case.name, case.patient, case.image, None))


def test_labels_are_read_at_the_size_of_their_image(dataset: Path) -> None:
    for case in data.read(dataset).train[:2]:
        assert data.read_labels(case).shape == images.size(case.image) == (96, 96)


def test_45_an_annotation_outside_the_data_folder_is_not_read(dataset: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "data"))
    annotation = next((root / "train/outputs_json").rglob("*.json"))
    annotation.replace(tmp_path / "outside.json")
    annotation.symlink_to(tmp_path / "outside.json")
    with pytest.raises(DataError, match="is a link that leads out of outputs_json"):
        data.read(root)
