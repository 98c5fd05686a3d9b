"""`threshold` and `run_lengths`: bit for bit what interpolating every plane and comparing gives."""

import numpy as np
import pytest
import torch

from carpus import kernels
from carpus.errors import DataError
from carpus.kernels import reference
from carpus.kernels.axis import taps

# torch interpolates outputs of up to 128 rows and columns together in another order of operations.
CASES = [
    ((64, 64), (256, 256)),
    ((40, 33), (100, 90)),
    ((17, 19), (63, 77)),
    ((1, 1), (200, 3)),
    ((90, 100), (40, 90)),
    ((64, 64), (160, 160)),
    ((17, 17), (187, 187)),
    ((60, 70), (60, 70)),
    ((60, 70), (60, 175)),
]


def random_logits(classes: int, size: tuple[int, int]) -> torch.Tensor:
    logits = torch.randn(2, classes, *size, generator=torch.Generator().manual_seed(classes)) * 3
    logits[:, :, : size[0] // 3] -= 9
    logits[:, 0] = -1
    return logits


@pytest.mark.parametrize(("narrow", "wide"), CASES)
@pytest.mark.parametrize("classes", [1, 29, 31])
def test_bit_for_bit(narrow, wide, classes):
    logits = random_logits(classes, narrow)
    for thresholds in (torch.full((classes,), 0.5), torch.linspace(0.05, 0.95, classes)):
        expected = reference.threshold(logits, thresholds, wide)
        assert torch.equal(kernels.threshold(logits, thresholds, wide), expected)
        found = kernels.run_lengths(logits, thresholds, wide)
        for image, labels in zip(found, expected.numpy(), strict=True):
            pairs = zip(image, reference.encode(labels, classes), strict=True)
            assert all(np.array_equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.parametrize("size", [160, 640, 768])
def test_bit_for_bit_where_the_logits_are_the_threshold(size):
    """Half the pixels are at the threshold but for rounding: another weight in the last place shows."""
    narrow = {160: 64, 640: 256, 768: 256}[size]
    ramp = torch.linspace(-1, 1, narrow)
    for steep in (1e-6, 1e-4, 1.0):
        slope = (ramp[:, None] + ramp[None, :]) * steep + 0.7
        logits = torch.stack([slope, slope.flip(1), -slope])[None]
        for z in torch.nn.functional.interpolate(logits, (size, size), mode="bilinear")[0, :, ::53, ::37].flatten(1).T:
            cuts = torch.sigmoid(z.double())
            expected = reference.threshold(logits, cuts, (size, size))
            assert torch.equal(kernels.threshold(logits, cuts, (size, size)), expected)


def test_weights_are_those_of_torch():
    """Unit impulses along one axis, the other copied, give torch's own weights, in every layout it has a kernel for."""
    random = np.random.default_rng(0)
    pairs = [(64, 160), (256, 640), (256, 768), (17, 187), (128, 320), (64, 64), (1, 9), (9, 1), (90, 40), (512, 2048)]
    pairs += [tuple(pair) for pair in random.integers(1, 300, (150, 2)).tolist()]
    for narrow, wide in pairs:
        first, second, before, after = taps(narrow, wide).table
        expected = np.zeros((narrow, wide), np.float32)
        np.add.at(expected, (first, np.arange(wide)), before)
        np.add.at(expected, (second, np.arange(wide)), after)
        impulses = torch.eye(narrow)[None, None]
        found = torch.nn.functional.interpolate(impulses, (narrow, wide), mode="bilinear")[0, 0]
        assert np.array_equal(found.numpy(), expected), (narrow, wide)
        if narrow <= 64:
            last = impulses.expand(1, 4, -1, -1).contiguous(memory_format=torch.channels_last)
            found = torch.nn.functional.interpolate(last.mT, (wide, narrow), mode="bilinear")[0, 3].T
            assert np.array_equal(found.numpy(), expected), (narrow, wide)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("narrow", "wide"), [((70, 70), (70, 70)), ((70, 70), (70, 280)), ((70, 70), (210, 175))])
def test_what_is_not_finite_stays_where_torch_has_it(value, narrow, wide):
    logits = torch.full((1, 1, *narrow), 3.0)
    logits[0, 0, [0, 20, 69], [0, 30, 69]] = value
    expected = reference.threshold(logits, torch.tensor([0.5]), wide)
    assert torch.equal(kernels.threshold(logits, torch.tensor([0.5]), wide), expected)
    runs = kernels.run_lengths(logits, torch.tensor([0.5]), wide)[0]
    assert np.array_equal(kernels.decode(runs, wide), expected[0].numpy())
    if narrow == wide:
        assert (expected == 0).sum() == 3


@pytest.mark.parametrize(("narrow", "wide"), [((1, 1), (90, 62)), ((3, 5), (123, 62)), ((5, 7), (1276, 100))])
def test_a_pixel_may_exceed_all_its_logits_by_rounding(narrow, wide):
    """Every logit is the threshold itself, none above it; some of the pixels are."""
    above = 0
    for value in (torch.rand(40, generator=torch.Generator().manual_seed(0)) + 1).tolist():
        logits = torch.full((1, 1, *narrow), value)
        cut = torch.sigmoid(logits[0, :, 0, 0].double())
        expected = reference.threshold(logits, cut, wide)
        assert torch.equal(kernels.threshold(logits, cut, wide), expected)
        found = kernels.run_lengths(logits, cut, wide)[0]
        assert np.array_equal(kernels.decode(found, wide), expected[0].numpy())
        above += int(expected.sum())
    assert above > 1000


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_types_of_logits(dtype):
    logits = random_logits(3, (64, 64)).to(dtype)
    thresholds = torch.tensor([0.3, 0.5, 0.9])
    assert torch.equal(
        kernels.threshold(logits, thresholds, (256, 256)), reference.threshold(logits, thresholds, (256, 256))
    )


def test_the_usual_way():
    """interpolate, sigmoid, > 0.5: sigmoid rounds to 0.5 up to 6e-8, which a random logit hardly ever is."""
    logits = random_logits(5, (128, 128))
    planes = torch.nn.functional.interpolate(logits, (512, 512), mode="bilinear", align_corners=False)
    masks = torch.sigmoid(planes) > 0.5
    labels = kernels.threshold(logits, torch.full((5,), 0.5), (512, 512))
    assert all(torch.equal(((labels >> k) & 1).bool(), masks[:, k]) for k in range(5))


def test_constant_logits_at_the_threshold():
    """A constant plane stays at its value: not above a threshold equal to it, above the next lower one."""
    for value in (-1.7, 0.0, 0.3, 2.2):
        cut = torch.sigmoid(torch.tensor([value], dtype=torch.float64))
        logits = torch.full((1, 1, 50, 50), value)
        expected = reference.threshold(logits, cut, (201, 333))
        assert torch.equal(kernels.threshold(logits, cut, (201, 333)), expected)
        assert (kernels.threshold(logits, cut - 1e-6, (201, 333)) == 1).all()


def test_nan_sets_no_bit():
    logits = torch.full((1, 2, 40, 40), 3.0)
    logits[0, 1, 20, 20] = float("nan")
    labels = kernels.threshold(logits, torch.tensor([0.5, 0.5]), (160, 160))[0]
    assert (labels & 1 == 1).all()
    assert (labels[80:84, 80:84] == 1).all()
    assert (labels[:70] == 3).all()
    runs = kernels.run_lengths(logits, torch.tensor([0.5, 0.5]), (160, 160))[0]
    assert np.array_equal(kernels.decode(runs, (160, 160)), labels.numpy())


def test_noise_has_more_runs_than_expected():
    """The first guess of the memory for runs is too small here."""
    logits = torch.randn(1, 2, 16, 400, generator=torch.Generator().manual_seed(0))
    logits[:, 1] = -1
    labels = reference.threshold(logits, torch.tensor([0.5, 0.5]), (16, 1600))[0].numpy()
    found = kernels.run_lengths(logits, torch.tensor([0.5, 0.5]), (16, 1600))[0]
    assert len(found[0]) > 4 * 16
    assert np.array_equal(found[0], reference.encode(labels, 2)[0])
    assert len(found[1]) == 0


@pytest.mark.parametrize(
    ("logits", "thresholds", "size"),
    [
        (torch.zeros(1, 2, 3, 3), torch.tensor([0.5]), (6, 6)),
        (torch.zeros(1, 32, 3, 3), torch.full((32,), 0.5), (6, 6)),
        (torch.zeros(1, 2, 3, 3), torch.tensor([0.5, 0.5]), (0, 6)),
        (torch.zeros(1, 2, 3, 3, dtype=torch.int32), torch.tensor([0.5, 0.5]), (6, 6)),
        *[(torch.zeros(1, 2, 3, 3), torch.tensor([0.5, bad]), (6, 6)) for bad in (0, 1, -0.1, 1.1, float("nan"))],
    ],
)
def test_what_does_not_fit_is_refused(logits, thresholds, size):
    for verb in (kernels.threshold, kernels.run_lengths):
        with pytest.raises(DataError, match=r"thresholds: |logits"):
            verb(logits, thresholds, size)
