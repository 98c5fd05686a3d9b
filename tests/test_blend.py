"""Means of logits and of probabilities, by hand."""

import math

import pytest
import torch

from carpus.blend import Mean


def plane(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(1, len(values), 1, 1).expand(-1, -1, 2, 2)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_logits_are_averaged() -> None:
    mean = Mean("logits")
    mean.add(plane(1, -2))
    mean.add(plane(3, 0))
    assert mean.logits()[0, :, 0, 0].tolist() == [2, -1]


def test_probabilities_are_averaged_and_come_back_as_logits() -> None:
    mean = Mean("probabilities")
    mean.add(plane(logit(0.9), logit(0.2)))
    mean.add(plane(logit(0.4), logit(0.2)))
    assert mean.logits()[0, :, 1, 1].tolist() == pytest.approx([logit(0.65), logit(0.2)], abs=1e-5)


def test_every_class_has_weights_of_its_own() -> None:
    mean = Mean("logits")
    mean.add(plane(1, 1), torch.tensor([1.0, 0.0]))
    mean.add(plane(4, 4), torch.tensor([3.0, 1.0]))
    assert mean.logits()[0, :, 0, 0].tolist() == [3.25, 4]


def test_what_was_not_seen_does_not_count() -> None:
    mean = Mean("logits")
    mean.add(plane(1.0))
    mean.add(plane(3.0), seen=torch.tensor([[True, False], [True, True]]))
    assert mean.logits()[0, 0].tolist() == [[2, 1], [2, 2]]


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_finer_logits_are_laid_on_the_first_grid(kind) -> None:
    mean = Mean(kind)
    mean.add(plane(-1.0))
    mean.add(torch.full((1, 1, 8, 8), -1.0), seen=torch.ones(8, 8, dtype=torch.bool))
    assert torch.allclose(mean.logits(), plane(-1.0), atol=1e-6)


def test_certainty_stays_finite() -> None:
    mean = Mean("probabilities")
    mean.add(plane(200.0, -200.0))
    assert torch.isfinite(mean.logits()).all()


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_equal_answers_come_back_bit_for_bit(kind) -> None:
    answer = torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 12
    mean = Mean(kind)
    for weight in (1 / 3, 0.1, 1.7, 0.0, 1.0):
        mean.add(answer, torch.tensor([weight, 1.0, weight + 0.3]))
    mean.add(answer + 1, torch.zeros(3))
    assert torch.equal(mean.logits(), answer)


def test_a_mean_of_sure_probabilities_is_exact() -> None:
    answers = torch.randn(3, 1, 2, 40, 40, generator=torch.Generator().manual_seed(0)) * 20
    mean = Mean("probabilities")
    for answer in answers:
        mean.add(answer)
    wide = answers.double()
    expected = torch.sigmoid(wide).sum(0).log() - torch.sigmoid(-wide).sum(0).log()
    assert torch.allclose(mean.logits().double(), expected, rtol=1e-6, atol=1e-6)
