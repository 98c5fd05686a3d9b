"""Sliding windows give what the whole canvas gives, as far as the network reaches no farther than their margin."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from carpus.errors import ConfigError
from carpus.tiles import Tiles, blended


class Shifted(nn.Module):
    """Equivariant to shifts by its stride of 4, and reaches 2 + 4 = 6 pixels to every side, 0 beyond the border."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 4, 5, padding=2, bias=False)
        self.second = nn.Conv2d(4, 3, 3, padding=1, bias=False)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.second(functional.avg_pool2d(torch.relu(self.first(pictures)), 4))


@pytest.fixture
def canvas() -> Tensor:
    return torch.randn(1, 1, 160, 160, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("size", "overlap", "batch"), [(64, 0.5, 1), (64, 0.5, 4), (96, 0.6, 3), (128, 0.3, 2)])
@torch.no_grad()
def test_tiles_equal_the_whole_image_where_the_margin_covers_the_networks_reach(
    canvas: Tensor, size: int, overlap: float, batch: int
) -> None:
    network = Shifted()
    tiled = blended(network, canvas, Tiles(size, overlap, margin=16), batch)
    assert torch.allclose(tiled, network(canvas), atol=1e-5)


@torch.no_grad()
def test_without_a_margin_the_edges_of_tiles_show(canvas: Tensor) -> None:
    network = Shifted()
    assert not torch.allclose(blended(network, canvas, Tiles(64)), network(canvas), atol=1e-5)


@torch.no_grad()
def test_a_tile_that_covers_the_canvas_is_the_whole_canvas(canvas: Tensor) -> None:
    network = Shifted()
    assert torch.equal(blended(network, canvas, Tiles(160)), network(canvas))


def test_the_middle_of_a_tile_counts_most() -> None:
    """Each tile answers with its own number: at its centre nearly that number alone is left."""
    numbers = iter(range(9))
    canvas = torch.zeros(1, 1, 128, 128)
    made = blended(lambda seen: torch.full_like(seen, float(next(numbers))), canvas, Tiles(64))
    assert [round(made[0, 0, 0, x].item(), 2) for x in (0, 127)] == [0, 2]
    assert made[0, 0, 64, 64].item() == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize(("side", "starts"), [(64, [0]), (96, [0, 32]), (160, [0, 32, 64, 96]), (32, [0])])
def test_tiles_cover_the_canvas(side: int, starts: list[int]) -> None:
    assert Tiles(64).starts(side) == starts


@pytest.mark.parametrize(("size", "overlap"), [(64, 0), (64, 0.9), (96, 0.25), (512, 0.5)])
def test_no_pixel_is_left_between_tiles(size: int, overlap: float) -> None:
    tiles = Tiles(size, overlap)
    for side in range(size, 2049, 32):
        starts = tiles.starts(side)
        assert starts[0] == 0
        assert starts[-1] + size == side
        assert all(0 < b - a <= tiles.step for a, b in pairwise(starts))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [((50,), "tile: .* 32"), ((64, 1.0), "overlap"), ((64, 0.5, 17), "margin: 17 .* gaps"), ((64, 0.5, -1), "margin")],
)
def test_tiles_that_cannot_be_are_refused(arguments: tuple, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Tiles(*arguments)


def test_a_stride_that_is_no_whole_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="tile: 64 pixels give 48 logits"):
        blended(lambda seen: seen[..., :48, :48], torch.zeros(1, 1, 96, 96), Tiles(64))
