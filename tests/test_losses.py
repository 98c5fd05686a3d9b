"""Losses: their identities, what an absent class does, and how settings become formulas."""

import math

import pytest
import torch
from torch import Tensor

from carpus import kernels, losses
from carpus.errors import ConfigError
from carpus.kernels import codes

OVERLAP = ["dice", "jaccard", "tversky", "focal_tversky", "log_cosh_dice"]


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(0)) * 2


@pytest.fixture
def labels() -> Tensor:
    words = torch.randint(0, 8, (2, 24, 20), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    words[:, :6] = 0
    return words


def planes(labels: Tensor, classes: int = 3) -> Tensor:
    return torch.stack([(labels >> k) & 1 for k in range(classes)], dim=1).float()


def upsampled(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("bce", {}, 1 / 16),
        ("dice", {}, 3 / 7),
        ("jaccard", {}, 3 / 5),
        ("tversky", {"alpha": 0.3, "beta": 0.7}, 1.7 / 3.7),
        ("focal_tversky", {"alpha": 0.3, "beta": 0.7, "exponent": 0.75}, (1.7 / 3.7) ** 0.75),
        ("log_cosh_dice", {}, math.log(math.cosh(3 / 7))),
    ],
)
def test_formulas_on_numbers_by_hand(name, options, expected):
    """16 pixels, 4 of them bone; predicted 3, of which 2 hit: one false, two missed."""

    def one(value):
        return torch.tensor([[value]], dtype=torch.float64)

    sums = losses.Sums(pt=one(2), p=one(3), t=one(4), bce=one(1), pixels=one(16))
    assert float(losses.FORMULAS[name](sums, **options)) == pytest.approx(expected, rel=1e-12)


def test_bce_is_the_mean_of_torch(logits, labels):
    expected = torch.nn.functional.binary_cross_entropy_with_logits(upsampled(logits, labels), planes(labels))
    torch.testing.assert_close(losses.build({"bce": 1})(logits, labels), expected)


def test_dice_is_the_mean_over_images_and_classes(logits, labels):
    p, t = torch.sigmoid(upsampled(logits, labels)), planes(labels)
    expected = 1 - (2 * (p * t).sum((2, 3)) / (p.sum((2, 3)) + t.sum((2, 3)))).mean()
    torch.testing.assert_close(losses.build({"dice": 1})(logits, labels), expected)


def test_focal_is_the_definition(logits, labels):
    p, t = torch.sigmoid(upsampled(logits, labels)), planes(labels)
    hit = p * t + (1 - p) * (1 - t)
    expected = (-((1 - hit) ** 2) * hit.log()).mean()
    torch.testing.assert_close(losses.build({"focal": {"weight": 1, "gamma": 2}})(logits, labels), expected)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"tversky": {"alpha": 0.5, "beta": 0.5}}, {"dice": 1}),
        ({"tversky": {"alpha": 1, "beta": 1}}, {"jaccard": 1}),
        ({"focal": {"gamma": 0}}, {"bce": 1}),
        ({"focal_tversky": {"alpha": 0.5, "beta": 0.5, "exponent": 1}}, {"dice": 1}),
    ],
)
def test_tversky_and_focal_contain_the_others(one, other, logits, labels):
    labels[1] &= ~2
    first, second = losses.build(one), losses.build(other)
    torch.testing.assert_close(first(logits, labels), second(logits, labels))
    torch.testing.assert_close(first.per_class(logits, labels), second.per_class(logits, labels))


def test_jaccard_follows_from_dice(logits, labels):
    dice = 1 - losses.build({"dice": 1}).per_class(logits, labels)
    jaccard = 1 - losses.build({"jaccard": 1}).per_class(logits, labels)
    torch.testing.assert_close(jaccard, dice / (2 - dice))


@pytest.mark.parametrize("name", losses.FORMULAS)
def test_perfect_is_zero_and_all_wrong_is_not(name, labels):
    certain = planes(labels) * 80 - 40
    loss = losses.build({name: 1})
    assert loss(certain, labels) < 1e-12
    assert loss(-certain, labels) > 0.4


@pytest.mark.parametrize("name", losses.FORMULAS)
def test_permuting_classes_permutes_the_loss(name, logits, labels):
    order = [2, 0, 1]
    permuted = sum(((labels >> k) & 1) << place for place, k in enumerate(order))
    loss = losses.build({name: 1})
    expected = loss.per_class(logits, labels)[:, order]
    assert torch.equal(loss.per_class(logits[:, order], permuted.int()), expected)


def test_a_combination_is_the_weighted_sum(logits, labels):
    together = losses.build({"bce": 0.3, "dice": 0.7, "focal": {"weight": 2, "gamma": 1}})
    apart = [({"bce": 1}, 0.3), ({"dice": 1}, 0.7), ({"focal": {"gamma": 1}}, 2)]
    expected = sum(share * losses.build(setting)(logits, labels) for setting, share in apart)
    torch.testing.assert_close(together(logits, labels), expected)


@pytest.mark.parametrize("name", OVERLAP)
def test_an_absent_class_punishes_its_false_positives(name):
    """Class 1 is nowhere: the more of it is predicted, the worse, and every pixel of it is pushed down."""
    labels = torch.zeros(1, 32, 32, dtype=torch.int32)
    labels[:, 4:12, 4:12] = 1
    loss = losses.build({name: 1})
    values = []
    for size in (0, 2, 8, 32):
        logits = torch.full((1, 2, 32, 32), -20.0)
        logits[:, 0, 4:12, 4:12] = 20
        logits[:, 1, :size, :size] = 3
        leaf = logits.requires_grad_()
        value = loss.per_class(leaf, labels)[0, 1]
        value.backward()
        assert leaf.grad is not None
        assert (leaf.grad[0, 1, :size, :size] > 0).all()
        values.append(float(value.detach()))
    assert values == sorted(values)
    assert values[0] < 1e-3 < values[1]


@pytest.mark.parametrize("name", losses.FORMULAS)
def test_images_with_and_without_soft_labels_are_learnt_as_by_plain_torch(name, logits, labels):
    """One image of soft labels, one of labels; a class and half an image count less, some pixels nothing."""
    logits = logits.double().requires_grad_()
    eight = torch.randint(0, 256, (3, 9, 7), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    counted = torch.tensor([[1.0, 0.0, 1.0], [0.5, 0.5, 0.5]])
    weight = (labels >> 2 & 1 == 0).double()[:, None]
    z = upsampled(logits, labels)
    p, soft = z.sigmoid(), codes.decoded(upsampled(eight[None].double(), labels))[0]
    t = torch.stack([soft, planes(labels)[1].double()])
    entropy = -t * p.log() - (1 - t) * (1 - p).log()
    sums = {
        "pt": torch.minimum(p, t), "p": p, "t": t, "bce": entropy, "focal": (p - t) ** 2 * entropy,
        "pixels": torch.ones_like(p[:, :1]),
    }  # fmt: skip
    plain = losses.FORMULAS[name](losses.Sums(**{key: (value * weight).sum((2, 3)) for key, value in sums.items()}))
    loss = losses.build({name: 1})
    found = loss(logits, labels, soft=(eight, None), ignore=2, counted=counted)
    expected = (plain * counted).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    ours, theirs = (torch.autograd.grad(value, logits)[0] for value in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-9)
    assert (ours[0, 1] == 0).all()
    assert ours[0, 0].any()


@pytest.mark.parametrize(("alpha", "beta"), [(0, 1), (0.3, 0.7), (1, 0)])
def test_an_absent_class_costs_the_same_whatever_weighs_its_errors(alpha, beta):
    logits = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    sums = kernels.sums(logits, torch.zeros(1, 32, 32, dtype=torch.int32))[0, 0]
    loss = losses.build({"tversky": {"alpha": alpha, "beta": beta}})(logits, torch.zeros(1, 32, 32, dtype=torch.int32))
    torch.testing.assert_close(loss.double(), sums[1] / (sums[1] + 1e-3 * 32 * 32), rtol=1e-6, atol=0)


@pytest.mark.parametrize("setting", [*({name: 1} for name in OVERLAP), {"tversky": {"alpha": 0, "beta": 1}}])
def test_a_class_fades_into_absence_without_a_jump(setting):
    """Soft labels a hair apart cost a hair apart: next to none at all, and where a class begins to be there."""
    loss, labels = losses.build(setting), torch.zeros(1, 16, 16, dtype=torch.int32)
    logits = torch.full((1, 1, 16, 16), -6.0, dtype=torch.float64)
    for few, more in [(0.0, 1e-15), (losses.FADE * (1 - 1e-9), losses.FADE * (1 + 1e-9))]:
        one, other = (loss(logits, labels, soft=torch.full_like(logits, t)) for t in (few, more))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert loss(logits, labels, soft=torch.zeros_like(logits)) == loss(logits, labels) > 0.1


def test_a_false_bone_as_large_as_the_constant_costs_half():
    labels = torch.zeros(1, 100, 100, dtype=torch.int32)
    logits = torch.full((1, 1, 100, 100), -60.0)
    logits[0, 0, 0, :10] = 60
    torch.testing.assert_close(losses.build({"dice": 1})(logits, labels), torch.tensor(0.5), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", losses.FORMULAS)
def test_gradients_are_finite_at_the_extremes(name):
    for value in (-1e4, 0.0, 1e4):
        for word in (0, 1):
            leaf = torch.full((1, 1, 4, 4), value, requires_grad=True)
            losses.build({name: 1})(leaf, torch.full((1, 16, 16), word, dtype=torch.int32)).backward()
            assert leaf.grad is not None
            assert torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("name", losses.FORMULAS)
def test_gradient_descends(name, labels):
    leaf = torch.zeros(2, 3, 24, 20, requires_grad=True)
    loss = losses.build({name: 1})
    before = loss(leaf, labels)
    before.backward()
    assert leaf.grad is not None
    after = loss(leaf.detach() - leaf.grad / leaf.grad.abs().max(), labels)
    assert after < before


def test_batch_adds_images_before_the_formula(logits, labels):
    together = losses.build({"dice": 1}, batch=True)
    sums = kernels.sums(logits, labels).sum(0)
    expected = 1 - 2 * sums[:, 0] / (sums[:, 1] + sums[:, 2])
    torch.testing.assert_close(together.per_class(logits, labels)[0], expected)


def test_ignored_pixels_do_not_exist(logits, labels):
    """Ignoring the right half is the same as having only the left half, at factor 1."""
    narrow, half = torch.randn(2, 3, 24, 20, generator=torch.Generator().manual_seed(3)), labels.clone()
    half[:, :, 10:] |= 1 << 3
    for name in losses.FORMULAS:
        loss = losses.build({name: 1})
        expected = loss(narrow[..., :10].contiguous(), labels[..., :10].contiguous())
        torch.testing.assert_close(loss(narrow, half, ignore=3), expected, rtol=1e-5, atol=1e-7)


def test_an_image_ignored_altogether_costs_nothing(logits):
    labels = torch.full((2, 24, 20), 1 << 3, dtype=torch.int32)
    for name in losses.FORMULAS:
        leaf = logits.clone().requires_grad_()
        value = losses.build({name: 1})(leaf, labels, ignore=3)
        value.backward()
        assert value == 0
        assert leaf.grad is not None
        assert (leaf.grad == 0).all()


def test_auxiliary_outputs_share_one_weight(logits, labels):
    loss = losses.build({"bce": 0.5, "dice": 0.5})
    coarse = torch.randn(2, 3, 3, 3)
    expected = (loss(logits, labels) + 0.4 * loss(coarse, labels)) / 1.4
    torch.testing.assert_close(loss.of_outputs([logits, coarse], labels, [1, 0.4]), expected)
    torch.testing.assert_close(loss.of_outputs([logits, logits], labels, [1, 0.4]), loss(logits, labels))


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({}, "by name, got {}"),
        ({"dise": 1}, "unknown formula 'dise'"),
        ({"dice": -1}, "loss.dice.weight"),
        ({"dice": True}, "loss.dice.weight"),
        ({"bce": {"weight": 1, "alpha": 0.3}}, "unknown parameter 'alpha'"),
        ({"tversky": {"weight": float("nan")}}, "loss.tversky.weight"),
        ({"focal": {"gamma": float("inf")}}, "loss.focal.gamma"),
    ],
)
def test_settings_that_mean_nothing_are_refused(setting, says):
    with pytest.raises(ConfigError, match=says):
        losses.build(setting)


@pytest.mark.parametrize("weights", [{}, ["bce"], {"bce": 0, "dice": 0.0}])
def test_a_loss_that_measures_nothing_is_refused(weights):
    with pytest.raises(ConfigError, match="loss: "):
        losses.build(weights)


@pytest.mark.parametrize("weights", [[2, -1], [1, float("nan")], [0, 0], [1], [1, float("inf")]])
def test_weights_of_outputs_that_make_no_loss_are_refused(weights):
    logits, labels = torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int32)
    with pytest.raises(ConfigError, match="loss weights: expected 2"):
        losses.build({"bce": 1}).of_outputs((logits, logits), labels, weights)
