"""Sums against soft labels: the definition in float64, and hard labels as a special case."""

import numpy as np
import pytest
import torch
from numba import njit
from test_sums import error, random_labels, random_logits
from torch import Tensor
from torch.nn import functional

from carpus import kernels, losses
from carpus.errors import DataError
from carpus.kernels import by_class, codes
from carpus.kernels.cpu import elementary, of_tensors


@pytest.fixture(params=["cpu", "by_class"], autouse=True)
def implementation(request, monkeypatch) -> str:
    """What a CPU does, and what GPUs do; both are called for soft labels only."""
    hard = of_tensors.sums
    if request.param == "by_class":
        monkeypatch.setattr(of_tensors, "sums", lambda *given: (hard if given[-1] is None else by_class.sums)(*given))
    return request.param


def expected_sums(logits: Tensor, soft: Tensor, size: tuple[int, int], gamma: float) -> Tensor:
    """The definition, written out again without the reference."""
    z, t = (functional.interpolate(x, size, mode="bilinear", align_corners=False) for x in (logits, soft))
    p = 1 / (1 + torch.exp(-z))
    bce = -t * torch.log(p) - (1 - t) * torch.log(1 - p)
    pixels = torch.stack([(p + t - (p - t).abs()) / 2, p, t, bce, (p - t).abs() ** gamma * bce], dim=2)
    return pixels.sum((3, 4))


@pytest.mark.parametrize(("narrow", "other", "wide"), [((5, 7), (3, 4), (20, 28)), ((6, 4), (15, 10), (15, 10))])
def test_values_and_gradients(narrow, other, wide):
    logits = random_logits(3, narrow, torch.float64).div(3).requires_grad_()
    soft = torch.rand(2, 3, *other, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    labels = torch.zeros(2, *wide, dtype=torch.int32)
    found = kernels.sums(logits, labels, gamma=1.5, soft=soft)
    expected = expected_sums(logits, soft, wide, 1.5)
    assert error(found.detach(), expected.detach()) < 1e-12
    for column in range(5):
        ours, exact = (torch.autograd.grad(x[..., column].sum(), logits, retain_graph=True, allow_unused=True)[0]
                       for x in (found, expected))  # fmt: skip
        assert column == 2 or error(ours, exact) < 1e-10


@pytest.mark.parametrize("coded", [True, False])
@pytest.mark.parametrize(("narrow", "other", "wide"), [((6, 5), (7, 9), (24, 20)), ((2, 600), (3, 31), (5, 2101))])
def test_single_precision_is_near_the_reference_in_double(implementation, narrow, other, wide, coded):
    """Ignored pixels and weights included, and columns of more than one tile."""
    logits = random_logits(3, narrow, torch.float32)
    soft = torch.rand(2, 3, *other, generator=torch.Generator().manual_seed(3))
    soft[0, 0] = 0
    soft = torch.from_numpy(codes.encoded(soft.numpy())) if coded else soft
    labels = random_labels(4, wide)
    weight = torch.rand(2, *wide, generator=torch.Generator().manual_seed(4))
    seen = ((labels >> 3) & 1 == 0).double()
    ours, exact = logits.clone().requires_grad_(), logits.double().requires_grad_()
    found = kernels.sums(ours, labels, gamma=1.5, weight=weight, ignore=3, soft=soft)
    expected = kernels.reference.sums(exact, labels, 1.5, weight * seen, soft if coded else soft.double())
    assert error(found.detach(), expected.detach()) < 1e-6
    for column in (0, 1, 3, 4):
        one, other_ = (torch.autograd.grad(x[..., column].sum(), leaf, retain_graph=True)[0]
                       for x, leaf in ((found, ours), (expected, exact)))  # fmt: skip
        # torch upsamples with positions in float32.
        assert error(one, other_) < {"cpu": 2e-6, "by_class": 1e-4}[implementation]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_soft_labels_of_0_and_1_are_the_labels(dtype):
    logits, labels = random_logits(3, (5, 6), dtype), random_labels(3, (20, 24))
    soft = torch.stack([(labels >> k) & 1 for k in range(3)], dim=1).float()
    leaves = [logits.clone().requires_grad_() for _ in range(2)]
    sums = [kernels.sums(leaves[0], labels, gamma=2.0), kernels.sums(leaves[1], labels, gamma=2.0, soft=soft)]
    assert error(sums[1].detach(), sums[0].detach()) < 1e-6
    for found in sums:
        found.sum().backward()
    assert error(leaves[1].grad, leaves[0].grad) < (1e-2 if dtype == torch.bfloat16 else 1e-6)


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky"])
def test_overlap_losses_are_least_where_the_probabilities_are_the_soft_labels(name):
    """The usual soft Dice, with p t for the overlap, is least where p is 0 or 1 instead."""
    teacher = random_logits(2, (8, 8), torch.float64).div(4)
    loss, labels = losses.build({name: 1}), torch.zeros(2, 8, 8, dtype=torch.int32)
    at_teacher = loss(teacher, labels, soft=torch.sigmoid(teacher))
    assert float(at_teacher) < 1e-7
    for factor in (0.5, 0.9, 1.1, 3.0):
        assert loss(teacher * factor, labels, soft=torch.sigmoid(teacher)) > at_teacher + 1e-4


def test_ignored_pixels_and_weights_count_as_with_labels():
    logits, soft = random_logits(2, (4, 4), torch.float32), torch.rand(2, 2, 4, 4)
    labels = random_labels(3, (8, 8))
    seen = ((labels >> 2) & 1 == 0).float()
    by_bit = kernels.sums(logits, labels, ignore=2, soft=soft)
    assert torch.equal(by_bit, kernels.sums(logits, labels, weight=seen, soft=soft))
    assert torch.equal(kernels.sums(logits, labels, weight=2 * seen, soft=soft), 2 * by_bit)


def test_codes_are_probabilities_but_for_their_error_and_0_and_1_themselves():
    probabilities = np.linspace(0, 1, 100001)
    found = codes.decoded(torch.from_numpy(codes.encoded(probabilities)).double()).numpy()
    assert 0.99 * codes.ERROR < np.abs(found - probabilities).max() <= codes.ERROR < 0.006
    assert np.abs(found - probabilities)[probabilities < 0.01].max() < codes.ERROR / 10
    assert found[[0, -1]].tolist() == [0, 1]
    assert torch.equal(codes.decoded(torch.tensor([0.0, 127.5, 255.0])), torch.tensor([0, 0.5, 1]))


def test_codes_are_upsampled_as_the_logits_they_stand_for():
    """So that a network that says the same at the same resolution is right, where probabilities would be off."""
    z = random_logits(2, (6, 6), torch.float64).clamp(-4, 4)
    labels, soft = torch.zeros(2, 24, 24, dtype=torch.int32), torch.sigmoid(z)
    eight = torch.from_numpy(codes.encoded(soft.numpy()))
    loss = losses.build({"dice": 1})
    assert loss(z, labels, soft=eight) < 0.01 < 0.04 < loss(z, labels, soft=soft)
    leaves = [z.clone().requires_grad_() for _ in range(2)]
    upsampled = functional.interpolate(eight.double(), (24, 24), mode="bilinear")
    for leaf, truth in zip(leaves, (eight, codes.decoded(upsampled)), strict=True):
        kernels.sums(leaf, labels, gamma=2.0, soft=truth).sum().backward()
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-5, atol=1e-6)


def test_soft_labels_that_do_not_fit_are_refused():
    logits, labels = torch.zeros(1, 2, 4, 4), torch.zeros(1, 8, 8, dtype=torch.int32)
    for soft in (
        torch.zeros(1, 2, 0, 4),
        torch.zeros(1, 2, 4, 0),
        torch.zeros(1, 3, 4, 4),
        torch.zeros(1, 2, 4),
        torch.zeros(1, 2, 4, 4, dtype=torch.int32),
    ):
        with pytest.raises(DataError, match=r"soft: expected \(1, 2, h, w\) floating point"):
            kernels.sums(logits, labels, soft=soft)


def test_the_logarithm_is_within_its_bound():
    q = np.concatenate([np.geomspace(1e-37, 1, 100001), np.linspace(0.4, 1, 100001)]).astype(np.float32)
    found, expected = logarithms(q), np.log(q.astype(np.float64))
    assert (np.abs(found - expected) / np.maximum(1, np.abs(expected))).max() < 1e-7


@njit
def logarithms(q):
    result = np.empty_like(q)
    for i in range(len(q)):
        result[i] = elementary.log(q[i])
    return result
