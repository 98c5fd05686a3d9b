"""What `carpus models` lists, and that every recipe is a network that can be built."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from small_models import build, settings
from torch import nn
from typer.testing import CliRunner

from carpus import catalogue, config, models
from carpus.cli import app
from carpus.models import sources
from carpus.models.weightless import Weightless


def test_the_catalogue_lists_every_architecture_with_what_it_has() -> None:
    assert {entry.name for entry in catalogue.ENTRIES} == set(models.NAMES)
    for entry in catalogue.ENTRIES:
        if entry.weights == "imagenet":
            chosen = config.Model.model_validate({"name": entry.name, "encoder": entry.encoder})
            assert "/" in sources.repository("imagenet", chosen)[0]


@pytest.mark.parametrize("entry", catalogue.ENTRIES, ids=lambda entry: f"{entry.name}-{entry.encoder}")
def test_the_numbers_of_the_catalogue_are_those_of_the_networks(entry: catalogue.Entry) -> None:
    with Weightless():
        network = models.build(
            config.Model.model_validate({"name": entry.name, "encoder": entry.encoder}), catalogue.CLASSES
        )
    assert (models.parameters(network), network.stride) == (entry.parameters, entry.stride)
    pooled = any(isinstance(module, nn.AdaptiveAvgPool2d) for module in network.decoder.modules())
    assert ("batch >= 2" in entry.limits) == pooled


def test_parameters_are_those_of_torchvision() -> None:
    with torch.device("meta"):
        reference = torchvision.models.segmentation.fcn_resnet101(
            weights=None, weights_backbone=None, aux_loss=False, num_classes=29
        )
    counted = {(entry.name, entry.encoder): entry.parameters for entry in catalogue.ENTRIES}
    colour = 2 * 64 * 7 * 7  # weights of the first convolution for two channels more than grey
    assert counted["fcn", "resnet101"] == models.parameters(reference) - colour


def test_the_command_shows_them_in_80_columns_without_the_libraries() -> None:
    code = (
        "import sys; from carpus.cli import app; app(['models'], standalone_mode=False); print('torch' in sys.modules)"
    )
    environment = os.environ | {"COLUMNS": "80", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    lines = done.stdout.splitlines()
    assert lines[-1] == "False"
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines if " M " in line]
    assert [row[:2] for row in rows] == [[entry.name, entry.encoder] for entry in catalogue.ENTRIES]
    assert ["beit", "beit_large", "438.2", "M", "4", "microsoft/beit*"] in rows
    assert len(json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)) == len(rows)


def test_counting_takes_no_memory_and_gives_the_same_number() -> None:
    with Weightless():
        weightless = models.build(settings("segformer"), 5)
    held = sum(parameter.numel() for parameter in weightless.parameters() if parameter.device.type != "meta")
    assert held < 0.01 * models.parameters(weightless)
    assert models.parameters(weightless) == models.parameters(build(settings("segformer")))


@pytest.mark.parametrize("recipe", sorted(config.RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_a_network_for_its_images(recipe) -> None:
    chosen = config.load([recipe])
    assert chosen.data.image_size % models.multiple(chosen.model) == 0
    with Weightless():
        network = models.build(chosen.model.model_copy(update={"weights": None}), 29)
    assert network.stride <= 8
    weights = chosen.model.weights
    assert weights is None or "/" in weights or sources.repository(weights, chosen.model)


def test_the_commands_in_the_recipes_are_settings() -> None:
    for recipe in config.RECIPES.glob("*.yaml"):
        for word in re.findall(r"'(model\.[^']*)'", recipe.read_text()):
            assert config.load([recipe], [word])


def test_the_settings_in_the_documentation_are_settings() -> None:
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    found = re.findall(r"^\| `((?:down|up|refine|calibration|aux): .*?)` \|", text, re.MULTILINE)
    assert len(found) == 11
    for setting in found:
        name, value = setting.replace("2 or 4", "4").split(": ", 1)
        assert config.load([], [f"model.{name}={value}"])
