"""`sums` against the reference in float64: values and every gradient."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_maps import random_map
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from carpus import kernels, losses
from carpus.errors import DataError
from carpus.kernels import reference

# Errors are measured against the largest entry: rounding of the logits' own type, and what float32 arithmetic adds.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}

SIZES = [
    ((1, 1), (1, 1)),
    ((1, 1), (7, 5)),
    ((5, 7), (5, 7)),
    ((7, 5), (14, 10)),
    ((5, 7), (20, 28)),
    ((3, 19), (24, 152)),
    ((6, 4), (15, 10)),
    ((13, 11), (33, 27)),
    ((11, 13), (7, 5)),
    ((2, 300), (5, 601)),
    ((3, 1200), (7, 1300)),  # several tiles of the CPU kernel
]


def random_labels(classes: int, size: tuple[int, int], seed: int = 0, batch: int = 2) -> Tensor:
    """Blocks of arbitrary words, rows without any label, and the highest bit together with dense low bits."""
    random = np.random.default_rng(seed)
    words = random.integers(0, 2**classes, (batch, *size), dtype=np.int64)
    words &= -(random.random((batch, *size)) < 0.6).astype(np.int64)
    words[:, : size[0] // 4] = 0
    words[:, -1, -1] = 2**classes - 1
    return torch.from_numpy(words.astype(np.int32))


def random_logits(classes: int, size: tuple[int, int], dtype: torch.dtype, seed: int = 0, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(batch, classes, *size, generator=generator, dtype=torch.float64) * 5).to(dtype)


def both(logits: Tensor, labels: Tensor, **options) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """Sums by the kernel and by the reference in float64, and the gradients of each single column."""
    ours, exact = logits.clone().requires_grad_(), logits.double().requires_grad_()
    found = kernels.sums(ours, labels, **options)
    expected = kernels.reference.sums(exact, labels, **reference_options(labels, **options))
    gradients = []
    for column in range(found.shape[2]):
        if column == 2:
            continue
        gradient = torch.zeros_like(found)
        gradient[..., column] = torch.linspace(0.5, 2, gradient[..., column].numel()).view(gradient.shape[:2])
        ours.grad = exact.grad = None
        found.backward(gradient, retain_graph=True)
        expected.backward(gradient, retain_graph=True)
        assert ours.grad is not None
        assert exact.grad is not None
        assert ours.grad.dtype == logits.dtype
        gradients.append((ours.grad.double(), exact.grad))
    return found.detach(), expected.detach(), gradients


def reference_options(labels: Tensor, weight=None, ignore=None, **options):
    if ignore is not None:
        seen = ((labels >> ignore) & 1 == 0).double()
        weight = seen if weight is None else weight * seen
    return {"weight": weight, **options}


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


def agree(logits: Tensor, labels: Tensor, **options) -> None:
    found, expected, gradients = both(logits, labels, **options)
    assert found.dtype == torch.float64
    values = TOLERANCE[torch.float64 if logits.dtype == torch.float64 else torch.float32]
    for column in range(found.shape[2]):
        assert error(found[..., column], expected[..., column]) <= values, f"column {column}"
    for column, (ours, exact) in enumerate(gradients):
        assert error(ours, exact) <= TOLERANCE[logits.dtype], f"gradient {column}"


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("narrow", "wide"), SIZES)
def test_values_and_gradients(narrow, wide, dtype):
    agree(random_logits(3, narrow, dtype), random_labels(3, wide))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_with_weights_and_an_ignored_class(dtype, gamma):
    labels = random_labels(4, (15, 13))
    weight = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    agree(random_logits(4, (6, 5), dtype), labels, gamma=gamma)
    agree(random_logits(4, (6, 5), dtype), labels, gamma=gamma, weight=weight)
    agree(random_logits(3, (6, 5), dtype), labels, gamma=gamma, ignore=3)
    agree(random_logits(3, (6, 5), dtype), labels, weight=weight, ignore=3)


@pytest.mark.parametrize("classes", [1, 29, 31])
def test_empty_full_and_all_classes_at_once(classes):
    logits = random_logits(classes, (5, 6), torch.float32)
    agree(logits, torch.zeros(2, 20, 24, dtype=torch.int32))
    agree(logits, torch.full((2, 20, 24), 2**classes - 1, dtype=torch.int32))
    agree(logits, random_labels(classes, (20, 24)))


@pytest.mark.parametrize(("narrow", "wide"), [((16, 12), (64, 48)), ((7, 600), (28, 2400)), ((9, 9), (23, 20))])
def test_boxes_and_absent_classes(narrow, wide):
    """What a radiograph has: every class in one place, or nowhere."""
    random = np.random.default_rng(0)
    labels = torch.from_numpy(np.stack([random_map(random, wide, 5) for _ in range(2)]))
    agree(random_logits(5, narrow, torch.float32), labels, gamma=2.0)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(1, 40)] * 4), st.integers(0, 99))
def test_any_size(sizes, seed):
    h, w, height, width = sizes
    agree(random_logits(2, (h, w), torch.float64, seed, 1), random_labels(2, (height, width), seed, 1))


def test_confident_logits_keep_their_precision():
    """A hit at logit 30 costs exp(-30): adding and subtracting 30 would leave nothing of it."""
    logits = torch.full((1, 2, 4, 4), 30.0)
    logits[:, 1] = -30
    found = kernels.sums(logits, torch.ones(1, 16, 16, dtype=torch.int32), gamma=1.0)
    expected = 256 * np.log1p(np.exp(-30))
    np.testing.assert_allclose(found[0, :, 3], [expected, expected], rtol=1e-6)
    np.testing.assert_allclose(found[0, :, 4], [expected * np.exp(-30)] * 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_radiograph_overflows_nothing_and_loses_nothing(dtype):
    logits = torch.full((1, 1, 512, 512), 0.5, dtype=dtype, requires_grad=True)
    labels = torch.zeros(1, 2048, 2048, dtype=torch.int32)
    labels[:, 1000:] = 1
    found = kernels.sums(logits, labels)
    p = torch.sigmoid(torch.tensor(0.5, dtype=torch.float64))
    true = 1048 * 2048
    bce = -(true * p.log() + (2048 * 2048 - true) * (1 - p).log())
    expected = torch.stack([true * p, 2048 * 2048 * p, torch.tensor(float(true)), bce])
    torch.testing.assert_close(found[0, 0].double().detach(), expected.double(), rtol=2e-7, atol=0)
    found.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_the_same_input_gives_the_same_bits():
    logits, labels = random_logits(29, (33, 31), torch.float32), random_labels(29, (132, 124))
    results = []
    for _ in range(3):
        leaf = logits.clone().requires_grad_()
        found = kernels.sums(leaf, labels, gamma=2.0)
        found.sum().backward()
        results.append((found, leaf.grad))
    assert all(torch.equal(found, results[0][0]) and torch.equal(grad, results[0][1]) for found, grad in results)


def test_classes_do_not_mix():
    """Permuting logits and bits together permutes the sums."""
    logits, labels = random_logits(3, (5, 5), torch.float32), random_labels(3, (20, 20))
    order = [2, 0, 1]
    permuted = sum((((labels >> k) & 1) << place) for place, k in enumerate(order))
    assert torch.equal(kernels.sums(logits[:, order], permuted.int()), kernels.sums(logits, labels)[:, order])


@pytest.mark.parametrize("name", ["cpu", "reference", "by_class"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("wide", [(4, 4), (16, 16), (10, 3)])
def test_what_is_not_finite_is_not_hidden(monkeypatch, name, value, wide):
    """All sums of the class are NaN but sum t, whether it is there, absent or ignored, and those of no other class."""
    if name == "reference":
        monkeypatch.setattr(kernels, "_implementation", lambda _: reference)
    for word in (0, 1 << 1, 1 << 2):
        labels = torch.full((2, *wide), word, dtype=torch.int32)
        logits = torch.zeros(2, 2, 4, 4)
        soft = torch.zeros_like(logits) if name == "by_class" else None
        finite = kernels.sums(logits, labels, gamma=2.0, ignore=2, soft=soft)
        logits[1, 1, 2, 2] = value
        found = kernels.sums(logits, labels, gamma=2.0, ignore=2, soft=soft)
        assert torch.equal(found[0], finite[0])
        assert torch.equal(found[1, 0], finite[1, 0])
        assert found[1, 1, [0, 1, 3, 4]].isnan().all()
        assert found[1, 1, 2] == finite[1, 1, 2]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_large_logits_are_finite(dtype):
    logits = torch.full((1, 1, 64, 64), -6e4, dtype=dtype)
    assert kernels.sums(logits, torch.ones(1, 128, 128, dtype=torch.int32)).isfinite().all()


def test_a_kept_loss_keeps_no_maps():
    """The result outlives its backward, as in a list of losses to report; what the backward needed does not."""
    logits = random_logits(3, (5, 6), torch.float32).requires_grad_()
    found = kernels.sums(logits, random_labels(3, (20, 24)), gamma=2.0)
    loss = found.sum()
    kept = [StorageWeakRef(saved.untyped_storage()) for saved in found.grad_fn.next_functions[0][0].saved_tensors]
    assert kept
    assert not any(one.expired() for one in kept)
    loss.backward()
    assert all(one.expired() for one in kept)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_without_a_gradient_the_values_are_the_same():
    logits, labels = random_logits(3, (5, 6), torch.float32), random_labels(3, (20, 24))
    assert torch.equal(kernels.sums(logits, labels), kernels.sums(logits.clone().requires_grad_(), labels).detach())


def test_strides_do_not_matter():
    logits = random_logits(3, (5, 6), torch.float32)
    labels = random_labels(3, (20, 24))
    strided = logits.to(memory_format=torch.channels_last)
    assert torch.equal(kernels.sums(strided, labels.mT.contiguous().mT), kernels.sums(logits, labels))


@pytest.mark.parametrize(
    ("logits", "labels", "says"),
    [
        (torch.zeros(2, 3, 4), torch.zeros(2, 8, 8, dtype=torch.int32), "logits"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 8, 8), "torch.int32"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(1, 8, 8, dtype=torch.int32), "labels: expected 2 label maps"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 0, 8, dtype=torch.int32), "no pixel"),
    ],
)
def test_what_does_not_fit_is_refused(logits, labels, says):
    with pytest.raises(DataError, match=says):
        kernels.sums(logits, labels)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gamma": -0.5}, "gamma: .* at least 0, got -0.5"),
        ({"gamma": float("nan")}, "gamma"),
        ({"gamma": float("inf")}, "gamma"),
        ({"ignore": -1}, "ignore: expected a bit from 0 to 30, got -1"),
        ({"ignore": 31}, "ignore"),
        ({"ignore": 32}, "ignore"),
    ],
)
def test_settings_out_of_range_are_refused(options, says):
    with pytest.raises(DataError, match=says):
        kernels.sums(torch.zeros(1, 1, 2, 2), torch.zeros(1, 4, 4, dtype=torch.int32), **options)


def test_reference_gradient():
    """The reference itself against finite differences."""
    labels = random_labels(2, (5, 5))
    weight = torch.rand(labels.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    leaf = random_logits(2, (2, 2), torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: reference.sums(x, labels, 1.5, weight), (leaf,))


@pytest.mark.parametrize("value", [torch.finfo(torch.float32).min, torch.finfo(torch.float32).max])
def test_large_finite_logits_are_no_infinity(value):
    logits = torch.full((1, 2, 4, 4), value)
    logits[:, 1] = 0
    labels = torch.full((1, 8, 8), int(value > 0), dtype=torch.int32)
    assert torch.allclose(kernels.sums(logits, labels), reference.sums(logits, labels, None, None))


@pytest.mark.parametrize(
    "weight", [torch.rand(8, 8), torch.rand(1, 8, 8), torch.rand(2, 8, 1), torch.ones(2, 8, 8).int()]
)
@pytest.mark.parametrize("ignore", [None, 3])
def test_a_weight_of_another_shape_or_type_is_refused(weight, ignore):
    with pytest.raises(DataError, match=r"weight: expected \(2, 8, 8\) floating point"):
        losses.build({"bce": 1})(
            torch.zeros(2, 1, 4, 4), torch.ones(2, 8, 8, dtype=torch.int32), weight=weight, ignore=ignore
        )
