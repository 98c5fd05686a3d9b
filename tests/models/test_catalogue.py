"""What `carpus models` lists, and that every recipe is a network that can be built."""

import json
import re
from pathlib import Path

import pytest
import torch
import torchvision
from small_models import build, settings
from typer.testing import CliRunner

from carpus import config, models
from carpus.cli import app
from carpus.models import catalogue, pretrained


@pytest.fixture(scope="module")
def entries() -> list[catalogue.Entry]:
    return catalogue.entries()


def test_the_catalogue_lists_every_architecture_with_what_it_has(entries: list[catalogue.Entry]) -> None:
    assert {entry.name for entry in entries} == set(models.NAMES)
    for entry in entries:
        if entry.weights == "imagenet":
            chosen = config.Model.model_validate({"name": entry.name, "encoder": entry.encoder})
            assert "/" in pretrained.repository("imagenet", chosen)[0]


def test_parameters_are_those_of_torchvision(entries: list[catalogue.Entry]) -> None:
    with torch.device("meta"):
        reference = torchvision.models.segmentation.fcn_resnet101(
            weights=None, weights_backbone=None, aux_loss=False, num_classes=29
        )
    counted = {(entry.name, entry.encoder): entry.parameters for entry in entries}
    colour = 2 * 64 * 7 * 7  # weights of the first convolution for two channels more than grey
    assert counted["fcn", "resnet101"] == models.parameters(reference) - colour


def test_the_command_shows_them(entries: list[catalogue.Entry], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "entries", lambda progress: entries)
    shown = CliRunner().invoke(app, ["models"]).output
    assert "438.2 M" in shown
    assert "side <= 1024" in " ".join(shown.split())
    assert len(json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)) == len(entries)


def test_counting_takes_no_memory_and_gives_the_same_number() -> None:
    with catalogue.Weightless():
        weightless = models.build(settings("segformer"), 5)
    held = sum(parameter.numel() for parameter in weightless.parameters() if parameter.device.type != "meta")
    assert held < 0.01 * models.parameters(weightless)
    assert models.parameters(weightless) == models.parameters(build(settings("segformer")))


@pytest.mark.parametrize("recipe", sorted(config.RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_a_network_for_its_images(recipe) -> None:
    chosen = config.load([recipe])
    assert chosen.data.image_size % models.multiple(chosen.model) == 0
    with catalogue.Weightless():
        network = models.build(chosen.model.model_copy(update={"weights": None}), 29)
    assert network.stride <= 8
    weights = chosen.model.weights
    assert weights is None or "/" in weights or pretrained.repository(weights, chosen.model)


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
