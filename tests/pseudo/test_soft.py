"""Soft labels from the command to the weights: written, augmented with the labels, learnt, resumed."""

import shutil

import numpy as np
import pytest
import torch
from pseudo_jobs import keep, prepared
from safetensors.torch import load_file
from torch.nn import functional
from typer.testing import CliRunner

from carpus import augment, data, losses, run, train
from carpus.batches import Batches, Others
from carpus.cli import app
from carpus.errors import ConfigError, DataError
from carpus.formats import images, probabilities
from carpus.kernels import codes
from carpus.labels import BONES
from carpus.pseudo import make, provenance, trust
from carpus.pseudo.sources import Sources

STILL = augment.Settings()
WARPS = augment.Settings(rotation_deg=30, scale=0.2, shift=0.05, flip=True)


@pytest.fixture(scope="module")
def pseudo(dataset, trained, tmp_path_factory):
    """Hard and soft labels of the test images."""
    out = tmp_path_factory.mktemp("soft") / "data"
    images_of = f"{dataset}/test/DCM"
    result = CliRunner().invoke(app, ["pseudo", str(trained), "--images", images_of, "--out", str(out), "--soft"])
    assert result.exit_code == 0, result.output
    keep(out, "Ulna")
    return out


def exact(root, side):
    """The training cases of `root` with soft labels that say what the label map of that side says."""
    cases = []
    for case in data.read(root).train:
        labels = data.square_labels(data.read_labels(case), side)
        planes = np.stack([(labels >> k & 1) * 255 for k in range(len(BONES))]).astype(np.uint8)
        path = trust.soft_path(root, case.name)
        probabilities.write_codes(path, planes, labels.shape, BONES)
        cases.append(data.Case(case.name, case.patient, case.image, case.annotation, soft=path))
    return cases


def test_the_probabilities_of_the_runs_lie_beside_the_findings(dataset, trained, pseudo):
    sources = Sources([trained], BONES, lambda name: (96, 96))
    for case in data.read(pseudo).train:
        found = probabilities.read_codes(trust.soft_path(pseudo, case.name), BONES)
        said = sources.predict(case.name, images.read(case.image)).probabilities
        assert said is not None
        assert found.shape == said.shape
        assert np.abs(codes.decoded(torch.from_numpy(found).double()).numpy() - said).max() <= codes.ERROR
    assert provenance.read(pseudo).content["settings"]["soft"]


def test_a_submission_has_none(dataset, trained, tmp_path):
    sheet = dataset / "test_labels" / "submission.csv"
    with pytest.raises(ConfigError, match=r"--soft: .*submission\.csv is no run; a submission has labels"):
        make.make([trained, sheet], dataset / "test" / "DCM", tmp_path / "out", choices=make.Choices(soft=True))
    assert not (tmp_path / "out").exists()


def test_a_folder_without_is_refused_if_they_are_asked_for(dataset, copy, tiny):
    prepared(tiny(f"data.pseudo.root={copy}", "data.pseudo.soft=true"), dataset)
    missing = trust.soft_path(copy, data.read(copy).train[-1].name)
    missing.unlink()
    with pytest.raises(ConfigError, match=rf"data.pseudo.soft: .*{missing.name} is missing; make the labels with"):
        prepared(tiny(f"data.pseudo.root={copy}", "data.pseudo.soft=true"), dataset)
    others = prepared(tiny(f"data.pseudo.root={copy}"), dataset).batches.others
    assert others
    assert all(case.soft is None for case in others.cases)


def test_they_are_part_of_a_run_that_learns_from_them_and_of_no_other(dataset, copy, tiny):
    def identities():
        return [
            prepared(tiny(f"data.pseudo.root={copy}", f"data.pseudo.soft={soft}"), dataset).identity()["data"]
            for soft in ("true", "false")
        ]

    soft, hard = identities()
    path = trust.soft_path(copy, data.read(copy).train[0].name)
    probabilities.write_codes(path, probabilities.read_codes(path, BONES) // 2, (96, 96), BONES)
    changed, same = identities()
    assert changed["pseudo"] != soft["pseudo"] != hard["pseudo"]
    assert same == hard


def test_only_the_others_have_them_and_parts_of_a_batch_keep_their_own(dataset, pseudo, tiny):
    settings = tiny(f"data.pseudo.root={pseudo}", "data.pseudo.soft=true", "train.batch_size=4")
    batches = prepared(settings, dataset).batches
    batch = batches(0)
    assert batch.soft is not None
    assert [planes is not None for planes in batch.soft] == [case.soft is not None for case in batch.cases]
    assert sum(planes is not None for planes in batch.soft) == 2
    halves = batch.parts(2)
    assert [planes for half in halves for planes in half.soft or ()] == list(batch.soft)
    assert all(planes.dtype == torch.uint8 and len(planes) == len(BONES) for planes in batch.soft if planes is not None)
    assert batches(2).soft is None  # annotated images last
    assert prepared(tiny(f"data.pseudo.root={pseudo}"), dataset).batches(0).soft is None


def test_labels_of_0_and_1_as_soft_labels_cost_the_same(dataset, tmp_path):
    """At label resolution: a batch of annotated and pseudo-labelled images, as the loop hands it to the loss."""
    root = shutil.copytree(dataset, tmp_path / "data")
    cases = exact(root, 64)
    hard = [data.Case(case.name, case.patient, case.image, case.annotation) for case in cases]
    doubt = data.Doubt(frozenset({3}), pixels=np.array([[96 * 40, 96 * 5]]))
    cases, hard = ([data.Case(*list(vars(case).values())[:4], doubt, case.soft) for case in of] for of in (cases, hard))
    cache = data.Cache(BONES, 64, 64, 1 << 28)
    logits = torch.randn(4, len(BONES), 32, 32, generator=torch.Generator().manual_seed(0))
    batches = [
        Batches(hard[:4], cache, STILL, batch_size=4, seed=0, others=Others(of, STILL, 0.5, 0.7, 9))(1)
        for of in (cases[4:], hard[4:])
    ]
    assert batches[0].soft
    assert batches[0].ignore == len(BONES)
    for name in losses.FORMULAS:
        for together in (False, True):
            loss = losses.build({name: 1}, batch=together)
            found, gradients = [], []
            for batch in batches:
                leaf = logits.clone().requires_grad_()
                value = loss(leaf, batch.labels, **batch.counting)
                gradients.append(torch.autograd.grad(value, leaf)[0])
                found.append(value.item())
            assert found[0] == pytest.approx(found[1], rel=1e-6)
            torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-9)
            assert (gradients[0][:, 3] == 0).all()


@pytest.mark.parametrize("settings", [STILL, WARPS, augment.Settings(rotation_deg=20, flip=True, elastic=0.02)])
@pytest.mark.parametrize("crop", [None, augment.Crop(32, 1.0, len(BONES))])
def test_they_move_with_the_labels(dataset, tmp_path, settings, crop):
    """Nowhere sure of a bone that is two pixels off, nor of none within two pixels; these are a few pixels wide."""
    root, cache = shutil.copytree(dataset, tmp_path / "data"), data.Cache(BONES, 64, 96, 1 << 28)
    for side in (64, 32, 200):  # of the soft labels: of the image, half of it, of another network's canvas
        batch = Batches(exact(root, side)[:2], cache, settings, batch_size=6, seed=3, crop=crop)(0)
        assert batch.soft
        for planes, labels in zip(batch.soft, batch.labels, strict=True):
            assert planes is not None
            assert planes.shape[1] == min(side, 64) * (crop.side if crop else 64) // 64
            truth = torch.stack([labels >> k & 1 for k in range(len(BONES))]).float()
            soft = codes.decoded(functional.interpolate(planes[None].float(), tuple(labels.shape), mode="bilinear"))[0]
            most, least = (functional.max_pool2d(sign * truth, 5, 1, 2) * sign for sign in (1, -1))
            assert truth.any()
            assert (soft - most).max() < 0.75
            assert (least - soft).max() < 0.75


def test_training_learns_them_and_goes_on_bit_for_bit(dataset, pseudo, copy, tiny, tmp_path):
    def settings(root):
        return tiny(
            f"data.pseudo.root={root}", "data.pseudo.soft=true", "data.pseudo.selection=false",
            "data.pseudo.until=1", "train.steps=4", "train.save_every=1",
        )  # fmt: skip

    def weights(out):
        return load_file(tmp_path / out / run.WEIGHTS)

    def stop(now):
        if now.step == 2:
            raise KeyboardInterrupt

    train.train(settings(pseudo), dataset, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        train.train(settings(pseudo), dataset, tmp_path / "resumed", watch=stop)
    train.train(settings(pseudo), dataset, tmp_path / "resumed", resume=True)
    straight, resumed = weights("straight"), weights("resumed")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    for case in data.read(copy).train:
        path = trust.soft_path(copy, case.name)
        probabilities.write_codes(path, 255 - probabilities.read_codes(path, BONES), (96, 96), BONES)
    train.train(settings(copy), dataset, tmp_path / "other")
    assert any(not torch.equal(straight[name], other) for name, other in weights("other").items())


def test_a_broken_file_names_itself_and_its_image(dataset, copy, tiny):
    for case in data.read(copy).train:
        trust.soft_path(copy, case.name).write_bytes(b"PK")
    batches = prepared(tiny(f"data.pseudo.root={copy}", "data.pseudo.soft=true"), dataset).batches
    with pytest.raises(DataError, match=r"\.npz: no soft labels") as caught:
        batches(0)
    assert "while preparing" in caught.value.__notes__[0]
