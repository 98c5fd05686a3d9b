"""Networks behind one interface, and their weights."""

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from carpus import config, models
from carpus.errors import ConfigError, DataError
from carpus.models import weights

SMALL = config.Model(decoder_channels=(16, 16, 16, 8, 8))


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_logits_come_at_the_stride_asked_for(stride: int) -> None:
    network = models.build(SMALL.model_copy(update={"stride": stride}), 29).eval()
    logits = network(torch.zeros(2, 1, 64, 96)).logits
    assert logits.shape == (2, 29, 64 // stride, 96 // stride)


def test_an_untrained_network_expects_few_bones() -> None:
    network = models.build(SMALL, 29).eval()
    assert torch.sigmoid(network(torch.zeros(1, 1, 64, 64)).logits).mean() < 0.1


def test_an_unknown_encoder_and_a_wrong_decoder_are_config_errors() -> None:
    with pytest.raises(ConfigError, match=r"model\.encoder: .*resnet19"):
        models.build(SMALL.model_copy(update={"encoder": "resnet19"}), 29)
    with pytest.raises(ConfigError, match="five decoder blocks, got 3"):
        models.build(SMALL.model_copy(update={"decoder_channels": (8, 8, 8)}), 29)


def test_weights_survive_a_round_trip(tmp_path: Path) -> None:
    first, second = models.build(SMALL, 29), models.build(SMALL, 29)
    weights.save(first, tmp_path / "w.safetensors")
    weights.load(second, tmp_path / "w.safetensors")
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_an_encoder_starts_from_a_local_file(tmp_path: Path) -> None:
    source = models.build(SMALL, 29)
    weights.save(source.get_submodule("encoder"), tmp_path / "encoder.safetensors")
    local = models.build(SMALL.model_copy(update={"weights": str(tmp_path / "encoder.safetensors")}), 29)
    name = "encoder.layer1.0.conv1.weight"
    assert torch.equal(local.get_parameter(name), source.get_parameter(name))


def test_an_encoder_starts_from_a_colour_classifier(tmp_path: Path) -> None:
    classifier = torchvision.models.resnet18(weights=None).eval()
    weights.save(classifier, tmp_path / "resnet18.safetensors")
    settings = SMALL.model_copy(update={"weights": str(tmp_path / "resnet18.safetensors")})
    grey = torch.rand(1, 1, 64, 64)
    first = models.build(settings, 29).eval().get_submodule("encoder").get_submodule("conv1")(grey)
    assert torch.allclose(first, classifier.conv1(grey.expand(-1, 3, -1, -1)), atol=1e-5)


def test_weights_of_another_network_are_refused_by_key(tmp_path: Path) -> None:
    weights.save(models.build(SMALL, 28), tmp_path / "w.safetensors")
    with pytest.raises(DataError, match=r"head\.bias has shape \(28,\), expected \(29,\)"):
        weights.load(models.build(SMALL, 29), tmp_path / "w.safetensors")
    save_file({"strange": torch.zeros(1)}, tmp_path / "s.safetensors")
    with pytest.raises(DataError, match=r"(?s)missing .* and \d+ more"):
        weights.load(models.build(SMALL, 29), tmp_path / "s.safetensors")


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    torch.save(models.build(SMALL, 29).state_dict(), tmp_path / "w.pt")
    with pytest.raises(DataError, match="could run code"):
        weights.load(models.build(SMALL, 29), tmp_path / "w.pt")
    (tmp_path / "w.pt").rename(tmp_path / "w.safetensors")
    with pytest.raises(DataError, match="not readable as safetensors"):
        weights.load(models.build(SMALL, 29), tmp_path / "w.safetensors")
