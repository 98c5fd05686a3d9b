"""Weights that a network starts from: every key used, adapted, new or left out for a listed reason, or an error."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from small_models import CLASSES, NOOPS, build, pictures, settings, spread

from carpus import config, models, run
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


def test_another_number_of_classes_begins_calibration_and_auxiliary_classifiers_anew(file: Path) -> None:
    chosen = settings("fcn", calibration=True, aux=[{"stage": 4}])
    torch.manual_seed(7)
    source = models.build(chosen, CLASSES + 2)
    torch.nn.init.constant_(source.get_parameter("calibration.scale"), 3)
    weights.save(source, file)
    network = build(chosen.model_copy(update={"weights": str(file)}))
    assert "6 new (other classes: 7 there, 5 here)" in network.origin
    assert torch.equal(network.get_parameter("calibration.scale"), torch.ones(CLASSES))
    assert torch.equal(network.get_parameter("aux.4.0.weight"), source.get_parameter("aux.4.0.weight"))
    broken = dict(source.state_dict()) | {"aux.4.4.bias": torch.zeros(CLASSES + 1)}
    with pytest.raises(DataError, match=r"1 reshaped\n  reshaped aux\.4\.4\.bias has shape \(6,\), expected \(5,\)"):
        build(settings("fcn", weights=write(broken, file), calibration=True, aux=[{"stage": 4}]))


@pytest.mark.parametrize("added", [{"up": {}}, {"up": {"kind": "transposed"}}, {"refine": {"kind": "depthwise"}}])
def test_another_number_of_classes_is_refused_where_additions_have_no_row_a_class(added: dict, file: Path) -> None:
    chosen = settings("fcn", **added)
    weights.save(models.build(chosen, CLASSES + 2), file)
    with pytest.raises(DataError, match=rf"reshaped {next(iter(added))}\..* has shape"):
        build(chosen.model_copy(update={"weights": str(file)}))


def test_an_auxiliary_head_fills_that_of_its_own_stage_and_no_other(file: Path) -> None:
    # All maps of a BEiT are of one width, so heads of different stages have the same shapes.
    source = build(settings("beit", aux=[{"stage": 4}]), seed=7)
    weights.save(source, file)
    moved = build(settings("beit", weights=str(file), aux=[{"stage": 2}]))
    assert "new (aux.2 is an addition)" in moved.origin
    assert "left out (auxiliary head, for training only)" in moved.origin
    assert moved.continued == ()
    loaded = source.get_parameter("aux.4.0.weight")
    assert moved.get_parameter("aux.2.0.weight").shape == loaded.shape
    assert not torch.equal(moved.get_parameter("aux.2.0.weight"), loaded)
    more = build(settings("beit", weights=str(file), aux=[{"stage": 2}, {"stage": 4}]))
    assert "new (aux.2 is an addition)" in more.origin
    assert torch.equal(more.get_parameter("aux.4.0.weight"), loaded)


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


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("key", ["encoder.conv1.weight", "head.weight", "head.bias", "decoder.0.weight"])
def test_a_key_of_any_other_shape_is_listed_with_both_shapes(key: str, shape: tuple[int, ...], file: Path) -> None:
    if (key, shape) == ("head.bias", (3,)):
        message = r"head\.bias has shape \(3,\), expected \(5,\)"  # of half a head
    else:
        message = re.escape(f"reshaped {key} has shape {shape}, expected (")
    state = dict(build(settings("fcn"), seed=7).state_dict()) | {key: torch.zeros(shape)}
    with pytest.raises(DataError, match=message):
        build(settings("fcn", weights=write(state, file)))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("segformer", "decoder.layernorm.weight"),
        ("segformer", "norm.weight"),
        ("segformer", "classifier.weight"),
        ("fcn", "encoder.fc.weight"),
        ("fcn", "encoder.layer9.num_batches_tracked"),
        ("fcn", "lm_head.weight"),
        ("fcn", "aux_classifier.2.weight"),
        ("fcn", "aux.strange"),
    ],
)
def test_a_key_that_only_looks_like_a_classifiers_is_an_error(name: str, key: str, file: Path) -> None:
    whole = dict(build(settings(name), seed=7).state_dict())
    with pytest.raises(DataError, match=rf"1 unexpected\n  unexpected {re.escape(key)}$"):
        build(settings(name, weights=write(whole | {key: torch.zeros(5)}, file)))


@pytest.mark.parametrize(("name", "key"), [("fcn", "norm.weight"), ("upernet-convnext", "fc.weight")])
def test_an_encoders_file_may_have_its_own_classifier_and_no_other(name: str, key: str, file: Path) -> None:
    encoder = dict(build(settings(name), seed=7).get_submodule("encoder").state_dict())
    own = {"fcn": "fc.weight", "upernet-convnext": "head.fc.weight"}[name]
    made = build(settings(name, weights=write(encoder | {own: torch.zeros(7, 512)}, file)))
    assert "1 left out (image classifier)" in made.origin
    with pytest.raises(DataError, match=re.escape(key)):
        build(settings(name, weights=write(encoder | {key: torch.zeros(512)}, file)))


@pytest.mark.parametrize("half", ["head.weight", "head.bias"])
def test_half_a_head_is_an_error(half: str, file: Path) -> None:
    network = build(settings("fcn"), seed=7)
    encoder = {name: tensor for name, tensor in network.state_dict().items() if name.startswith("encoder.")}
    with pytest.raises(DataError, match=r"missing decoder\.0\.weight"):
        build(settings("fcn", weights=write(encoder | {half: network.state_dict()[half]}, file)))
    whole = dict(network.state_dict())
    del whole[half]
    with pytest.raises(DataError, match=f"1 missing\n  missing {half}"):
        build(settings("fcn", weights=write(whole, file)))


def test_missing_keys_do_not_hide_unexpected_ones(file: Path) -> None:
    state = {
        name: tensor for name, tensor in build(settings("fcn"), seed=7).state_dict().items() if "layer4" not in name
    }
    broken = state | {"encoder.stranger": torch.zeros(1), "encoder.bn1.bias": torch.zeros(2)}
    with pytest.raises(DataError) as caught:
        build(settings("fcn", weights=write(broken, file)))
    first, missing, unexpected, reshaped = str(caught.value).split("\n")
    assert re.search(r"\d\d missing, 1 unexpected, 1 reshaped$", first)
    assert missing.count("encoder.layer4.") == weights.SHOWN
    assert re.search(r"and \d+ more$", missing)
    assert unexpected == "  unexpected encoder.stranger"
    assert reshaped == "  reshaped encoder.bn1.bias has shape (2,), expected (64,)"


@pytest.mark.parametrize(
    ("name", "prefix"), [("fcn", "module."), ("fcn", "net.model."), ("hrnet", "model."), ("hrnet", "_orig_mod.")]
)
def test_a_network_within_a_wrapper_is_unwrapped(name: str, prefix: str, file: Path) -> None:
    source = build(settings(name), seed=7)
    state = {f"{prefix}{key}": tensor for key, tensor in source.state_dict().items()}
    network = build(settings(name, weights=write(state, file)))
    assert all(torch.equal(tensor, source.state_dict()[key]) for key, tensor in network.state_dict().items())
    assert all(f"{len(state)} renamed (without {part}.)" in network.origin for part in prefix.split(".")[:-1])


def test_renamed_weights_do_not_silently_stay_out(file: Path) -> None:
    state = {f"strange.{name}": tensor for name, tensor in build(settings("fcn"), seed=7).state_dict().items()}
    with pytest.raises(DataError, match=r"(?s)missing .* and \d+ more"):
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


@pytest.mark.parametrize(("name", "made"), [("unet", smp.Unet), ("unetplusplus", smp.UnetPlusPlus)])
@pytest.mark.parametrize("classes", [CLASSES, CLASSES + 2])
def test_a_head_of_another_kernel_begins_anew_and_all_else_is_loaded(
    name: str, made: Any, classes: int, file: Path
) -> None:
    torch.manual_seed(7)
    source = made("resnet18", encoder_weights=None, classes=classes, decoder_channels=(16, 16, 16, 8, 8))
    state = dict(source.state_dict())
    chosen = settings(name, weights=write(state, file), stride=None)
    network = build(chosen)
    assert "2 new (head of 3 x 3 pixels there, 1 x 1 here)" in network.origin
    assert torch.equal(network.get_parameter("head.weight"), build(settings(name, stride=None)).head.weight)
    loaded = network.decoder.state_dict()
    assert all(torch.equal(tensor, state[f"decoder.{key}"]) for key, tensor in loaded.items())
    with pytest.raises(DataError, match=r"2 reshaped\n  reshaped head\.bias has shape \(1, 5\)"):
        build(
            chosen.model_copy(update={"weights": write(state | {"segmentation_head.0.bias": torch.zeros(1, 5)}, file)})
        )


def test_a_coarser_unet_does_without_the_last_blocks_of_a_finer_one(file: Path) -> None:
    torch.manual_seed(7)
    source = smp.Unet("resnet18", encoder_weights=None, classes=CLASSES, decoder_channels=(16, 16, 16, 8, 4))
    state = dict(source.state_dict())
    chosen = settings("unet", weights=write(state, file), stride=2, decoder_channels=(16, 16, 16, 8, 4))
    network = build(chosen)
    assert "12 left out (block of the decoder finer than model.stride)" in network.origin
    assert "2 new (head of a finer stride there)" in network.origin
    loaded = network.decoder.state_dict()
    assert all(torch.equal(tensor, state[f"decoder.{key}"]) for key, tensor in loaded.items())
    for strange in ("decoder.blocks.3.strange", "decoder.blocks.4.strange", "decoder.blocks.5.conv1.0.weight"):
        write(state | {strange: torch.zeros(1)}, file)
        with pytest.raises(DataError, match=rf"1 unexpected\n  unexpected {re.escape(strange)}$"):
            build(chosen)


def test_a_folder_of_save_pretrained_is_read(tmp_path: Path) -> None:
    source = smp.Segformer("mit_b0", encoder_weights=None, classes=CLASSES, decoder_segmentation_channels=32)
    source.save_pretrained(tmp_path / "saved")
    network = build(settings("segformer", weights=str(tmp_path / "saved"))).eval()
    images = pictures()
    expected = source.eval()(images.expand(-1, 3, -1, -1))
    logits = torch.nn.UpsamplingBilinear2d(scale_factor=4)(network(images).logits)
    assert torch.allclose(logits, expected, atol=1e-4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no weights; expected model\.safetensors"):
        build(settings("segformer", weights=str(tmp_path / "empty")))


def test_a_run_folder_stands_for_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    source = build(settings("fcn"), seed=7)
    weights.save(source, tmp_path / "base" / run.WEIGHTS)
    chosen = config.load([], ["model={name: fcn, weights: base}"]).model
    assert chosen.weights == str(tmp_path / "base" / run.WEIGHTS)  # so that the patients it knows are known
    for start in (chosen.weights, "base"):
        network = build(settings("fcn", weights=start))
        assert torch.equal(network.get_parameter("head.weight"), source.get_parameter("head.weight"))


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
    file = (tmp_path / "beit" / "model.safetensors").rename(tmp_path / "alone.safetensors")
    alone = build(settings("beit", weights=str(file))).eval()
    assert all(torch.equal(tensor, alone.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert alone.origin.replace(str(file), "") == network.origin.replace(str(tmp_path / "beit"), "")
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
    alone = build(settings("beit", weights=str(tmp_path / "beit" / "model.safetensors")))
    assert torch.equal(*(made.get_parameter("encoder.beit.layers.3.mlp.fc1.weight") for made in (network, alone)))
    tables = [layer.relative_position_bias.relative_position_bias_table for layer in network.encoder.beit.layers]
    assert all(torch.equal(tables[0], table) and table.std() > 0.1 for table in tables)
    assert "new (weights of an encoder only)" in network.origin


def test_a_beit_of_another_size_is_refused(tmp_path: Path) -> None:
    from transformers import BeitForSemanticSegmentation

    BeitForSemanticSegmentation(beit_source(hidden_size=96, intermediate_size=384)).save_pretrained(tmp_path / "beit")
    for source in (tmp_path / "beit", tmp_path / "beit" / "model.safetensors"):
        with pytest.raises(DataError, match="has shape"):
            build(settings("beit", weights=str(source)))


def test_a_beit_file_with_a_broken_tensor_names_it(file: Path) -> None:
    from transformers import BeitForSemanticSegmentation

    BeitForSemanticSegmentation(beit_source()).save_pretrained(file.parent / "beit")
    state = load_file(file.parent / "beit" / "model.safetensors")
    broken = state | {"beit.encoder.layer.0.lambda_1": torch.zeros(())}
    with pytest.raises(DataError, match=r"lambda_1 has shape \(\), expected \(192,\)"):
        build(settings("beit", weights=write(broken, file)))
    with pytest.raises(DataError, match=r"unexpected beit\.strange"):
        build(settings("beit", weights=write(state | {"beit.strange": torch.zeros(1)}, file)))


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


@pytest.mark.parametrize("kind", ["state dict", "Lightning", "timm"])
def test_a_pickle_is_refused_and_the_error_converts_it(kind: str, tmp_path: Path) -> None:
    state = dict(build(settings("fcn"), seed=7).state_dict())
    state["encoder.bn1.bias"] = state["encoder.bn1.weight"]  # shared memory, which safetensors refuses
    saved = {
        "state dict": state,
        "Lightning": {"epoch": 3, "state_dict": {f"model.{name}": tensor for name, tensor in state.items()}},
        "timm": {"epoch": 3, "model": state, "optimizer": {"state": {}}},
    }
    torch.save(saved[kind], tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"could run code.*python -c") as caught:
        build(settings("fcn", weights=str(tmp_path / "w.pth")))
    code = str(caught.value).split('python -c "')[1].removesuffix('"')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("/")  # the command names whole paths
        exec(code)
    assert "tensors" in build(settings("fcn", weights=str(tmp_path / "w.safetensors"))).origin


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "beit").mkdir()
    (tmp_path / "beit" / "config.json").write_text(json.dumps({"model_type": "beit"}))
    with pytest.raises((ConfigError, DataError), match="beit"):
        build(settings("beit", weights=str(tmp_path / "beit")))


@pytest.mark.parametrize("name", ["fcn", "beit"])
def test_a_folder_mistyped_is_said_at_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr("carpus.models.sources._online", lambda: pytest.fail("asked the hub"))
    for mistyped in ("runs/resnet", str(tmp_path / "nothing"), "./nothing", "a/b/c", "gone.safetensors"):
        with pytest.raises(DataError, match="no such file or folder"):
            build(settings(name, weights=mistyped))


@pytest.mark.parametrize("name", ["fcn", "beit"])
def test_a_folder_with_a_pickle_alone_says_how_to_convert_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "beit"}))
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pytorch_model\.bin: only \.safetensors is read.*python -c"):
        build(settings(name, weights=str(tmp_path)))


def test_a_data_folder_called_imagenet_is_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()
    monkeypatch.setattr("carpus.models.sources._online", lambda: False)
    with pytest.raises(ConfigError, match=r"resnet\S* could not be fetched"):
        build(settings("fcn", weights="imagenet"))


def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    begun = time.perf_counter()
    with pytest.raises(ConfigError, match=r"nobody/nothing could not be fetched .*local \.safetensors file"):
        build(settings("fcn", weights="nobody/nothing"))
    assert time.perf_counter() - begun < 10


def test_a_path_in_a_recipe_is_relative_to_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study").mkdir()
    weights.save(build(settings("fcn"), seed=7), tmp_path / "study" / "w.safetensors")
    for value, expected in (
        ("w.safetensors", str(tmp_path / "study" / "w.safetensors")),
        ("../study", str(tmp_path / "study")),
        ("imagenet", "imagenet"),
        ("microsoft/beit-base", "microsoft/beit-base"),
    ):
        (tmp_path / "study" / "recipe.yaml").write_text(f"model: {{name: fcn, weights: {value}}}")
        assert config.load([tmp_path / "study" / "recipe.yaml"]).model.weights == expected
    monkeypatch.chdir(tmp_path)
    assert config.load([], ["model.weights=study/w.safetensors"]).model.weights == str(tmp_path / "study/w.safetensors")
