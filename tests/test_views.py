"""What a view turns it turns back."""

import pytest
import torch

from carpus.errors import ConfigError
from carpus.views import PLAIN, View, _turned, views


@pytest.fixture
def planes() -> torch.Tensor:
    return torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turn", [0.0, 90.0, 180.0, 270.0])
def test_mirrors_and_quarter_turns_are_undone_exactly(planes: torch.Tensor, flip: bool, turn: float) -> None:
    view = View(flip, turn)
    seen = view.see(planes)
    assert (seen is planes or torch.equal(seen, planes)) == (view == PLAIN)
    back, covered = view.back(seen)
    assert covered is None
    assert torch.equal(back, planes)


def test_a_turn_is_counterclockwise() -> None:
    picture = torch.tensor([[0.0, 1.0], [0.0, 0.0]])[None, None]
    assert View(turn_deg=90).see(picture)[0, 0].tolist() == [[1, 0], [0, 0]]


def test_the_warp_of_any_angle_agrees_with_quarter_turns(planes: torch.Tensor) -> None:
    assert torch.allclose(_turned(planes, 90 + 1e-9), _turned(planes, 90), atol=1e-4)
    assert torch.allclose(_turned(planes, -90 + 1e-9), _turned(planes, 270), atol=1e-4)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turn", [10.0, -10.0, 100.0])
def test_any_other_turn_comes_back_where_it_saw(flip: bool, turn: float) -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    smooth = (torch.sin(2 * x) + torch.cos(3 * y) + x)[None, None]
    view = View(flip, turn)
    back, seen = view.back(view.see(smooth))
    assert seen is not None
    assert 0.7 < seen.float().mean() < 1
    assert not seen[0, 0]  # a corner was cut off
    inner = seen & (x.abs() < 0.9) & (y.abs() < 0.9)
    assert (back - smooth)[0, 0][inner].abs().max() < 0.02


def test_views_are_every_combination_and_begin_with_the_plain_one() -> None:
    made = views(flip=True, turns_deg=[90, -10], scales=[1.25])
    assert made[0] == PLAIN
    assert len(made) == len(set(made)) == 2 * 3 * 2
    assert View(True, 350.0, 1.25) in made
    assert views(turns_deg=[0, 360], scales=[1]) == (PLAIN,)


@pytest.mark.parametrize("wrong", [{"turns_deg": [float("nan")]}, {"scales": [0.1]}, {"scales": [float("nan")]}])
def test_views_that_cannot_be_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=r"turn|scale"):
        views(**wrong)
