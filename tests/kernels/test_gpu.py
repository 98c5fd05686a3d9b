"""The Triton kernels against the reference: interpreted on every machine, and natively where there is a GPU.

Triton decides at its import whether it interprets, so the interpreted tests run in a process of their own.
"""

import os
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from kernel_maps import random_map
from test_sums import TOLERANCE, error, random_labels, random_logits

from carpus import kernels
from carpus.kernels import reference

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
NATIVE = torch.cuda.is_available() and not INTERPRETED
DEVICE = torch.device("cuda" if NATIVE else "cpu")


def native(test):
    return pytest.mark.gpu(pytest.mark.skipif(not NATIVE, reason="no GPU")(test))


def anywhere(test):
    return test if INTERPRETED else native(test)


SIZES = [
    ((1, 1), (7, 5)),
    ((5, 7), (5, 7)),
    ((5, 7), (20, 28)),
    ((6, 4), (15, 10)),
    ((11, 13), (7, 5)),
    ((1, 130), (2, 260)),
    ((70, 9), (70, 9)),
    ((18, 2), (27, 4)),
]


@pytest.fixture
def gpu():
    from carpus.kernels import gpu

    return gpu


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(INTERPRETED, reason="this is the inner process")
def test_in_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    inner = subprocess.run(
        command, env=os.environ | {"TRITON_INTERPRET": "1", "MALLOC_PERTURB_": "1"}, capture_output=True, text=True
    )
    assert inner.returncode == 0, inner.stdout
    assert "." in inner.stdout.splitlines()[0], "every test was skipped"


def agree(gpu, logits, labels, gamma=None, weight=None) -> None:
    ours = logits.clone().to(DEVICE).requires_grad_()
    exact = logits.double().requires_grad_()
    found = gpu.sums(ours, labels.to(DEVICE), gamma, None if weight is None else weight.to(DEVICE))
    expected = reference.sums(exact, labels, gamma, weight)
    for column in range(expected.shape[2]):
        assert error(found[..., column].detach().cpu(), expected[..., column].detach()) <= 1e-6
        if column == 2:
            continue
        gradient = torch.zeros_like(expected)
        gradient[..., column] = torch.linspace(0.5, 2, gradient[..., column].numel()).view(gradient.shape[:2])
        ours.grad = exact.grad = None
        found.backward(gradient.to(DEVICE), retain_graph=True)
        expected.backward(gradient, retain_graph=True)
        assert ours.grad is not None
        assert exact.grad is not None
        # The interpreter cuts bfloat16 where a GPU rounds it.
        assert error(ours.grad.double().cpu(), exact.grad) <= 2 * TOLERANCE[logits.dtype], f"gradient {column}"


@pytest.mark.parametrize(("narrow", "wide"), SIZES)
@anywhere
def test_values_and_gradients(gpu, narrow, wide):
    agree(gpu, random_logits(2, narrow, torch.float32), random_labels(2, wide))


@pytest.mark.parametrize("factor", [8, 16])
@anywhere
def test_many_pixels_a_logit_lose_nothing(gpu, factor):
    """The same addend thousands of times is where a sum in float32 drifts."""
    logits, labels = torch.full((1, 1, 15, 1), 0.3), torch.ones(1, 15 * factor, factor, dtype=torch.int32)
    found = gpu.sums(logits.to(DEVICE), labels.to(DEVICE), None, None).cpu()
    expected = reference.sums(logits.double(), labels)
    assert ((found - expected).abs() / expected).max() < 3e-7


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@anywhere
def test_half_precision(gpu, dtype):
    agree(gpu, random_logits(2, (5, 7), dtype), random_labels(2, (20, 28)))


@pytest.mark.parametrize("gamma", [0.0, 1.5])
@anywhere
def test_focal_with_weights(gpu, gamma):
    labels = random_labels(3, (15, 13))
    weight = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1))
    agree(gpu, random_logits(3, (6, 5), torch.float32), labels, gamma, weight)


@pytest.mark.parametrize("word", [0, 2**31 - 1])
@anywhere
def test_empty_and_full(gpu, word):
    agree(gpu, random_logits(31, (2, 3), torch.float32, batch=1), torch.full((1, 4, 6), word, dtype=torch.int32))


@pytest.mark.parametrize(("narrow", "wide"), SIZES)
@anywhere
def test_threshold(gpu, narrow, wide):
    """On a GPU a pixel may differ where its logit is the threshold but for rounding."""
    logits, thresholds = random_logits(3, narrow, torch.float32), torch.tensor([0.2, 0.5, 0.9])
    found = gpu.threshold(logits.to(DEVICE), thresholds.to(DEVICE), wide).cpu()
    for k, threshold in enumerate(thresholds.double()):
        z = torch.nn.functional.interpolate(logits[:, k : k + 1].double(), wide, mode="bilinear", align_corners=False)[
            :, 0
        ]
        clear = (z - torch.logit(threshold)).abs() > 1e-5
        assert clear.double().mean() > 0.99
        assert torch.equal(((found >> k) & 1).bool()[clear], (z > torch.logit(threshold))[clear])


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of NumPy, which interprets
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("wide", [(8, 8), (8, 32), (32, 8), (24, 20)])
@anywhere
def test_what_is_not_finite_stays_where_torch_has_it(gpu, value, wide):
    logits = torch.full((1, 2, 8, 8), 3.0)
    logits[0, 0, [0, 4, 7], [0, 5, 7]] = value
    found = gpu.threshold(logits.to(DEVICE), torch.tensor([0.5, 0.5]), wide).cpu()
    assert torch.equal(found, reference.threshold(logits, torch.tensor([0.5, 0.5]), wide))


@anywhere
def test_what_is_not_finite_is_not_hidden(gpu, monkeypatch):
    monkeypatch.setattr(kernels, "_implementation", lambda _: gpu)
    logits, labels = torch.zeros(1, 2, 4, 4), torch.zeros(1, 8, 8, dtype=torch.int32)
    logits[0, 1, 2, 2] = float("nan")
    found = kernels.sums(logits.to(DEVICE), labels.to(DEVICE))[0].cpu()
    assert found[0].isfinite().all()
    assert found[1].isnan().tolist() == [True, True, False, True]


@anywhere
def test_a_kept_loss_keeps_no_weight(gpu):
    """Nor the copies of logits and labels that the backward needed."""
    logits, labels = random_logits(2, (4, 4), torch.float32).to(DEVICE).requires_grad_(), random_labels(2, (8, 8))
    weight = torch.ones(labels.shape).to(DEVICE)
    kept = weakref.ref(weight)
    found = gpu.sums(logits, labels.to(DEVICE), None, weight)
    del weight
    assert kept() is not None
    found.sum().backward()
    assert kept() is None


@anywhere
def test_overlap(gpu):
    random = np.random.default_rng(0)
    a, b = random_map(random, (90, 77), 31), random_map(random, (90, 77), 31)
    found = gpu.overlap(torch.from_numpy(a).to(DEVICE), torch.from_numpy(b).to(DEVICE), 31)
    assert np.array_equal(found, reference.overlap(a, b, 31))


@native
def test_a_radiograph_on_the_gpu_is_deterministic_and_equals_the_cpu():
    logits, labels = random_logits(29, (512, 512), torch.float32, batch=1), random_labels(29, (2048, 2048), batch=1)
    results = []
    for device in ("cuda", "cuda", "cpu"):
        leaf = logits.to(device).requires_grad_()
        found = kernels.sums(leaf, labels.to(device), gamma=2.0)
        found.sum().backward()
        assert leaf.grad is not None
        results.append((found.detach().cpu(), leaf.grad.cpu()))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert error(results[0][0], results[2][0]) < 1e-6
    assert error(results[0][1], results[2][1]) < 1e-5
