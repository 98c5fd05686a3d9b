"""Weights that a network starts from: every key used, adapted, new or left out for a listed reason, or an error."""

import json
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from small_models import CLASSES, NOOPS, build, pictures, settings, spread

from carpus import config, models
from carpus.errors import ConfigError, DataError
from carpus.models import weights


def write(state: dict[str, torch.Tensor], path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return str(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "w.safetensors"


def test_a_base_fills_a_network_with_additions_which_then_begins_as_the_base(file: Path) -> None:
    trained = spread(build(settings("segformer"), seed=7)).eval()
    weights.save(trained, file)
    for addition in ("down-strided", "up-shuffle", "local", "aux"):
        chosen = settings("segformer", weights=str(file), **NOOPS[addition])
        network = build(chosen).eval()
        images = pictures(128)
        expected = trained(models.down.halve(images) if chosen.down else images).logits
        if chosen.up:
            expected = models.up.enlarge(expected, 2)
        assert torch.allclose(network(images).logits, expected, atol=1e-4), addition
        assert "is an addition" in network.origin
        assert not network.continued


def test_additions_go_on_from_a_file_that_has_them(file: Path) -> None:
    chosen = settings("segformer", up={}, refine={}, aux=[{}])
    trained = build(chosen, seed=7).eval()
    with torch.no_grad():
        trained.get_parameter("up.convolution.weight").fill_(0.01)
    weights.save(trained, file)
    network = build(chosen.model_copy(update={"weights": str(file)})).eval()
    assert torch.equal(network(pictures()).logits, trained(pictures()).logits)
    assert network.continued == ("up", "refine", "aux")
    with pytest.raises(DataError, match=r"unexpected up\.convolution\.bias"):
        build(settings("segformer", weights=str(file), refine={}))


def test_a_widened_projection_is_lost_when_it_begins_at_random(file: Path) -> None:
    weights.save(build(settings("segformer"), seed=7), file)
    network = build(settings("segformer", weights=str(file), down={"kind": "strided", "init": "random"}))
    assert "first projection begins anew" in network.origin
    loaded = load_file(file)["encoder.patch_embed1.proj.weight"]
    assert not torch.allclose(network.get_parameter("encoder.patch_embed1.proj.weight")[:, :1], loaded)


def test_another_number_of_classes_gives_a_new_head_and_nothing_else(file: Path) -> None:
    torch.manual_seed(7)
    weights.save(models.build(settings("fcn"), CLASSES + 2), file)
    network = build(settings("fcn", weights=str(file)))
    assert "2 new (other classes: 7 there, 5 here)" in network.origin
    assert torch.equal(network.get_parameter("decoder.0.weight"), load_file(file)["decoder.0.weight"])


def test_every_key_that_does_not_fit_is_an_error(file: Path) -> None:
    state = dict(build(settings("fcn"), seed=7).state_dict())
    for broken, message in (
        (state | {"encoder.layer1.0.conv3.weight": torch.zeros(1)}, r"unexpected encoder\.layer1\.0\.conv3\.weight"),
        ({name: tensor for name, tensor in state.items() if name != "encoder.bn1.weight"}, r"missing encoder\.bn1"),
        (state | {"encoder.bn1.weight": torch.zeros(3)}, r"encoder\.bn1\.weight has shape \(3,\), expected \(64,\)"),
        ({name: tensor for name, tensor in state.items() if name != "decoder.0.weight"}, r"missing decoder\.0\.weight"),
    ):
        with pytest.raises(DataError, match=message):
            build(settings("fcn", weights=write(broken, file)))


def test_renamed_weights_do_not_silently_stay_out(file: Path) -> None:
    state = {f"module.{name}": tensor for name, tensor in build(settings("fcn"), seed=7).state_dict().items()}
    with pytest.raises(DataError, match=r"missing .* and \d+ more"):
        build(settings("fcn", weights=write(state, file)))


def test_torchvisions_segmentation_network_is_read_by_its_names(file: Path) -> None:
    torch.manual_seed(7)
    source = torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None, aux_loss=True)
    network = build(config.Model(name="fcn", encoder="resnet50", weights=write(source.state_dict(), file)))
    assert torch.equal(network.get_parameter("decoder.0.weight"), source.state_dict()["classifier.0.weight"])
    colour = source.state_dict()["backbone.conv1.weight"]
    assert torch.equal(network.get_parameter("encoder.conv1.weight"), colour.sum(1, keepdim=True))
    assert "1 summed over colour" in network.origin
    assert "left out (auxiliary head of another library)" in network.origin


def test_a_folder_of_save_pretrained_is_read(tmp_path: Path) -> None:
    source = smp.Segformer("mit_b0", encoder_weights=None, classes=CLASSES, decoder_segmentation_channels=32)
    source.save_pretrained(tmp_path / "saved")
    network = build(settings("segformer", weights=str(tmp_path / "saved"))).eval()
    images = pictures()
    expected = source.eval()(images.expand(-1, 3, -1, -1))
    logits = torch.nn.UpsamplingBilinear2d(scale_factor=4)(network(images).logits)
    assert torch.allclose(logits, expected, atol=1e-4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no model\.safetensors there"):
        build(settings("segformer", weights=str(tmp_path / "empty")))


@pytest.mark.parametrize(
    ("name", "classifier"),
    [
        ("upernet-swin", "swin_tiny_patch4_window7_224"),
        ("upernet-convnext", "convnext_atto"),
        ("hrnet", "hrnet_w18_small"),
    ],
)
def test_timms_classifiers_are_read_by_their_names(name: str, classifier: str, file: Path) -> None:
    torch.manual_seed(7)
    source = timm.create_model(classifier, pretrained=False, num_classes=7)
    network = build(settings(name, weights=write(source.state_dict(), file))).eval()
    assert "left out (image classifier)" in network.origin
    colour = pictures(224).expand(-1, 3, -1, -1)
    source.eval()
    if name == "hrnet":
        stem = source.act1(source.bn1(source.conv1(colour)))
        expected = source.stages(source.act2(source.bn2(source.conv2(stem))))
    else:
        expected = source.forward_intermediates(colour, intermediates_only=True)
    features = network.encoder(pictures(224))
    assert len(expected) == 4
    for mine, other in zip(features[2:], expected, strict=True):
        assert torch.allclose(mine, other, atol=1e-3)


def beit_source(**more: object):
    from transformers import BeitConfig

    return BeitConfig(
        **{
            "hidden_size": 192,
            "num_hidden_layers": 12,
            "num_attention_heads": 3,
            "intermediate_size": 768,
            "image_size": 64,
            "use_relative_position_bias": True,
            "out_indices": [3, 5, 7, 11],
            **more,
        }
    )


def test_a_beit_of_transformers_with_positions_of_another_size(tmp_path: Path) -> None:
    from transformers import BeitForSemanticSegmentation

    torch.manual_seed(7)
    source = BeitForSemanticSegmentation(beit_source())
    with torch.no_grad():
        for layer in source.beit.layers:
            layer.relative_position_bias.relative_position_bias_table.normal_()
    source.save_pretrained(tmp_path / "beit")
    network = build(settings("beit", weights=str(tmp_path / "beit"))).eval()
    assert "12 interpolated (relative positions of another image size)" in network.origin
    assert "left out (auxiliary head of another library)" in network.origin
    images = pictures()
    own = network.get_submodule("encoder.beit")
    colour = images.expand(-1, 3, -1, -1)
    expected = source.eval().beit(colour, output_hidden_states=True).hidden_states
    tokens = torch.cat([own.embeddings.cls_token.expand(2, -1, -1), own.embeddings.patch_embeddings(images)], dim=1)
    assert torch.allclose(tokens, expected[0], atol=1e-5)
    # Positions interpolated up to those of 640 and down again are nearly those they were.
    table = source.beit.layers[0].relative_position_bias((4, 4))
    again = own.layers[0].relative_position_bias((4, 4))
    assert (again - table).abs().mean() < 0.2 * table.abs().mean()
    assert torch.equal(
        network.get_parameter("decoder.fpn_bottleneck.convolution.weight"),
        source.decode_head.fpn_bottleneck.convolution.weight,
    )


def test_a_beit_classifier_with_one_table_for_all_blocks(tmp_path: Path) -> None:
    from transformers import BeitForImageClassification

    torch.manual_seed(7)
    source = BeitForImageClassification(
        beit_source(use_relative_position_bias=False, use_shared_relative_position_bias=True)
    )
    with torch.no_grad():
        source.beit.shared_position_bias.relative_position_bias_table.normal_()
    source.save_pretrained(tmp_path / "beit")
    network = build(settings("beit", weights=str(tmp_path / "beit")))
    tables = [layer.relative_position_bias.relative_position_bias_table for layer in network.encoder.beit.layers]
    assert all(torch.equal(tables[0], table) and table.std() > 0.1 for table in tables)
    assert "new (weights of an encoder only)" in network.origin


def test_a_beit_of_another_size_is_refused(tmp_path: Path) -> None:
    from transformers import BeitForSemanticSegmentation

    BeitForSemanticSegmentation(beit_source(hidden_size=96, intermediate_size=384)).save_pretrained(tmp_path / "beit")
    with pytest.raises(DataError, match="has shape"):
        build(settings("beit", weights=str(tmp_path / "beit")))


def test_group_norm_takes_scale_and_shift_of_a_file_with_batch_norm(file: Path) -> None:
    source = build(settings("fcn"), seed=7)
    with torch.no_grad():
        source.get_parameter("encoder.bn1.weight").uniform_()
    weights.save(source, file)
    network = build(settings("fcn", weights=str(file), norm="group"))
    assert torch.equal(network.get_parameter("encoder.bn1.weight"), source.get_parameter("encoder.bn1.weight"))
    assert "statistics of BatchNorm" in network.origin


def test_a_frozen_encoder_keeps_its_statistics_while_training(file: Path) -> None:
    weights.save(spread(build(settings("fcn"), seed=7)), file)
    network = build(settings("fcn", weights=str(file), norm="frozen", aux=[{}])).train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(pictures())
    changed = {name for name, buffer in network.named_buffers() if not torch.equal(buffer, before[name])}
    assert changed
    assert not any(name.startswith("encoder.") for name in changed)
    assert not network.get_parameter("encoder.bn1.weight").requires_grad
    assert network.get_parameter("encoder.conv1.weight").requires_grad


@pytest.mark.parametrize("name", ["fcn", "beit"])
def test_without_a_network_the_error_names_the_local_option(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"nobody/nothing could not be fetched .*local \.safetensors file"):
        build(settings(name, weights="nobody/nothing"))
    if name == "fcn":
        with pytest.raises(ConfigError, match=r"resnet18\.imagenet could not be fetched .*local \.safetensors file"):
            build(settings("fcn", weights="imagenet"))


def test_a_pickle_is_refused_and_the_error_converts_it(tmp_path: Path) -> None:
    torch.save(build(settings("fcn"), seed=7).state_dict(), tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"could run code.*python -c") as caught:
        build(settings("fcn", weights=str(tmp_path / "w.pth")))
    code = str(caught.value).split('python -c "')[1].removesuffix('"')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        exec(code)
    assert "tensors" in build(settings("fcn", weights=str(tmp_path / "w.safetensors"))).origin


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "beit").mkdir()
    (tmp_path / "beit" / "config.json").write_text(json.dumps({"model_type": "beit"}))
    with pytest.raises((ConfigError, DataError), match="beit"):
        build(settings("beit", weights=str(tmp_path / "beit")))
