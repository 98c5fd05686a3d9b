"""The average of the weights."""

import contextlib

import pytest
import torch
from torch import nn

from carpus.ema import Average


def network() -> nn.Module:
    made = nn.Sequential(nn.Linear(2, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.constant_(made[0].weight, 0.0)  # pyright: ignore[reportArgumentType]
    return made


def set_to(made: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(value)


def test_the_average_forgets_as_its_decay_says() -> None:
    made = network()
    average = Average(made, 0.9)
    set_to(made, 1.0)
    average.update(1)  # keeps 2/11 so early
    assert average.tensors["0.weight"][0, 0] == pytest.approx(9 / 11)
    average.update(10_000)
    assert average.tensors["0.weight"][0, 0] == pytest.approx(0.9 * 9 / 11 + 0.1)


def test_the_average_is_lent_and_the_weights_come_back_bit_for_bit() -> None:
    made = network()
    average = Average(made, 0.9)
    set_to(made, 0.1)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    with contextlib.suppress(ZeroDivisionError), average.applied():
        assert float(made.state_dict()["0.weight"][0, 0]) == 0.0
        raise ZeroDivisionError
    assert all(before[name].equal(tensor) for name, tensor in made.state_dict().items())


def test_statistics_of_a_norm_are_averaged_and_its_count_is_not() -> None:
    assert set(Average(network(), 0.9).tensors) == {
        "0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var",
    }  # fmt: skip
