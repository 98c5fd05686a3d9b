"""Groups of the optimiser: learning rate by part, weight decay only where 0 is a goal."""

import torch
from small_models import build, settings
from torch import nn

from carpus import config
from carpus.models import rates

OPTIONS = config.Train(weight_decay=0.1, encoder_rate=0.1, additions_rate=10)


def test_biases_and_norms_do_not_decay() -> None:
    decayed, free = rates.groups(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), OPTIONS)
    assert [parameter.ndim for parameter in decayed["params"]] == [4]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0)
    assert len(free["params"]) == 3


def test_every_parameter_is_in_one_group_by_its_part() -> None:
    network = build(settings("segformer", up={}, refine={"kind": "pointwise"}, calibration=True, aux=[{}]))
    found = rates.groups(network, OPTIONS)
    place = {id(parameter): group for group in found for parameter in group["params"]}
    assert sum(len(group["params"]) for group in found) == len(place) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        factor = {"encoder": 0.1, "decoder": 1.0, "head": 1.0}.get(name.split(".")[0], 10)
        assert place[id(parameter)]["factor"] == factor, name
    assert place[id(network.get_parameter("refine.weight"))]["weight_decay"] == 0
    assert place[id(network.get_parameter("head.weight"))]["weight_decay"] == 0.1


def test_each_addition_may_have_its_own_rate_and_the_others_keep_1() -> None:
    options = config.load([], ["train.additions_rate={down: 10, aux: 2}"]).train
    network = build(settings("segformer", down={"kind": "strided"}, up={}, refine={}, calibration=True, aux=[{}]))
    place = {id(parameter): group for group in rates.groups(network, options) for parameter in group["params"]}
    for name, parameter in network.named_parameters():
        factor = 10 if name in network.widened else {"down": 10, "aux": 2}.get(name.split(".")[0], 1)
        assert place[id(parameter)]["factor"] == factor, name


def test_tables_of_positions_do_not_decay_and_frozen_norms_are_in_no_group() -> None:
    network = build(settings("beit"))
    network.get_parameter("encoder.fpn.fpn1.normalization.weight").requires_grad_(False)
    place = {id(parameter): group for group in rates.groups(network, OPTIONS) for parameter in group["params"]}
    table = network.get_parameter("encoder.beit.layers.0.relative_position_bias.relative_position_bias_table")
    assert place[id(table)]["weight_decay"] == 0
    assert id(network.get_parameter("encoder.fpn.fpn1.normalization.weight")) not in place
    torch.optim.AdamW(rates.groups(network, OPTIONS))


def test_a_widened_projection_learns_as_the_down_layer_that_widened_it() -> None:
    network = build(settings("segformer", down={"kind": "strided"}))
    place = {id(parameter): group for group in rates.groups(network, OPTIONS) for parameter in group["params"]}
    widened = place[id(network.get_parameter("encoder.patch_embed1.proj.weight"))]
    assert widened is place[id(network.get_parameter("down.weight"))]
    assert (widened["factor"], widened["weight_decay"]) == (10, 0)
    assert place[id(network.get_parameter("encoder.patch_embed1.proj.bias"))]["factor"] == 0.1
