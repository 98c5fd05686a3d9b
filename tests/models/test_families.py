"""Every architecture: shape, stride, gradients, equality with the library it comes from, export."""

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from small_models import CLASSES, SMALL, STRIDES, build, pictures, settings, spread

from carpus import config, models
from carpus.errors import ConfigError


@pytest.mark.parametrize("name", SMALL)
def test_logits_come_at_the_networks_stride_and_every_parameter_learns(name: str) -> None:
    network = build(settings(name)).train()
    logits, aux = network(torch.randn(2, 1, 64, 96))
    assert aux == ()
    assert network.stride == STRIDES.get(name, 4)
    assert logits.shape == (2, CLASSES, 64 // network.stride, 96 // network.stride)
    logits.square().sum().backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", SMALL)
def test_export_gives_the_same_logits(name: str) -> None:
    more = {} if name == "unetplusplus" else {"up": {}, "refine": {"kind": "attention"}}
    network = build(settings(name, **more)).eval()
    images = pictures()
    exported = torch.export.export(network, (images,), strict=False).module()
    assert torch.allclose(exported(images).logits, network(images).logits, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter, about itself
@pytest.mark.parametrize("name", SMALL)
def test_onnx_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = build(settings(name)).eval()
    images = pictures()
    torch.onnx.export(network, (images,), tmp_path / "network.onnx", dynamo=True, optimize=False, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert torch.allclose(torch.from_numpy(logits), network(images).logits, atol=1e-4)
    if name == "beit":  # whose attention is another while it is exported
        assert network.get_submodule("encoder.beit").config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("fcn", torchvision.models.segmentation.fcn_resnet50),
        ("deeplabv3", torchvision.models.segmentation.deeplabv3_resnet50),
    ],
)
def test_dilated_networks_are_those_of_torchvision(name: str, make) -> None:
    torch.manual_seed(1)
    reference = spread(make(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=False)).eval()
    network = build(config.Model(name=name, encoder="resnet50")).eval()
    state = {}
    for key, tensor in reference.state_dict().items():
        part, rest = key.split(".", 1)
        own = f"encoder.{rest}" if part == "backbone" else f"decoder.{rest}"
        state[own.replace("decoder.4.", "head.")] = tensor
    state["encoder.conv1.weight"] = state["encoder.conv1.weight"].sum(1, keepdim=True)
    network.load_state_dict(state)
    images = pictures()
    expected = reference(images.expand(-1, 3, -1, -1))["out"]
    logits = torch.nn.functional.interpolate(network(images).logits, size=(64, 64), mode="bilinear")
    assert torch.allclose(logits, expected, atol=1e-3 * expected.abs().max().item())


@pytest.mark.parametrize(
    ("name", "make"), [("deeplabv3plus", smp.DeepLabV3Plus), ("upernet", smp.UPerNet), ("segformer", smp.Segformer)]
)
def test_pyramids_are_those_of_segmentation_models_pytorch(name: str, make) -> None:
    chosen = settings(name, decoder_channels=None)
    torch.manual_seed(1)
    reference = spread(make(chosen.encoder, encoder_weights=None, in_channels=1, classes=CLASSES)).eval()
    network = build(chosen).eval()
    network.load_state_dict(
        {key.replace("segmentation_head.0.", "head."): tensor for key, tensor in reference.state_dict().items()}
    )
    images = pictures()
    logits = torch.nn.UpsamplingBilinear2d(scale_factor=4)(network(images).logits)  # as smp enlarges, corners aligned
    assert torch.allclose(logits, reference(images), atol=1e-4)


def test_beit_reads_its_maps_after_the_last_block() -> None:
    network = build(settings("beit")).eval()
    images = pictures()
    before = network(images).logits
    with torch.no_grad():
        network.get_parameter("encoder.beit.layers.11.mlp.fc2.weight").zero_()
    assert not torch.allclose(network(images).logits, before, atol=1e-6)


def test_beit_trains_in_a_process_that_predicted_before() -> None:
    images = torch.zeros(1, 1, 32, 96)  # a size of no other test: what was made for it stays in the process
    with torch.inference_mode():
        build(settings("beit")).eval()(images)
    network = build(settings("beit")).eval()
    network(images).logits.sum().backward()
    assert network.get_parameter("encoder.beit.layers.0.mlp.fc2.weight").grad is not None


def test_beit_takes_any_size_by_interpolated_positions() -> None:
    network = build(settings("beit")).eval()
    assert network(torch.randn(1, 1, 96, 160)).logits.shape == (1, CLASSES, 24, 40)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"name": "segformer"}, r"model\.encoder: segformer has mit_b0 to mit_b5, got resnet18"),
        ({"name": "beit"}, r"beit has beit_tiny, beit_base, beit_large, got resnet18"),
        ({"name": "hrnet", "encoder": "resnet18"}, r"hrnet has hrnet_w18_small"),
        ({"name": "fcn", "encoder": "resnet19"}, r"model\.encoder: resnet19"),
        ({"name": "upernet", "encoder": "tu-nothing"}, r"model\.encoder: tu-nothing"),
        ({"name": "deeplabv3plus", "encoder": "mit_b0"}, "cannot be dilated to stride 16"),
        ({"name": "deeplabv3", "encoder": "mit_b0"}, "cannot be dilated to stride 8"),
        ({"name": "unetplusplus", "encoder": "mit_b0"}, "no map of stride 2"),
        ({"name": "unetplusplus", "stride": 2}, r"model\.stride: .*stride 1, got 2"),
        ({"name": "fcn", "stride": 2}, r"model\.stride: fcn has its own"),
        ({"name": "fcn", "decoder_channels": (8,)}, r"model\.decoder_channels: fcn"),
        ({"name": "upernet", "decoder_channels": (8, 8)}, r"upernet has one width, got 2"),
        ({"norm": "frozen"}, r"model\.norm: frozen keeps statistics"),
        (
            {"name": "segformer", "encoder": "mit_b0", "norm": "frozen", "weights": "imagenet"},
            r"model\.norm: frozen .* mit_b0 has none",
        ),
        (
            {"name": "beit", "encoder": "beit_tiny", "norm": "frozen", "weights": "a/b"},
            r"model\.norm: frozen .* beit_tiny has none",
        ),
        ({"up": {}}, r"model\.up\.factor: unet gives logits at stride 1; 2 would make them finer"),
        ({"stride": 4, "up": {"kind": "transposed", "init": "icnr"}}, r"model\.up\.init: icnr"),
        ({"refine": {"kind": "pointwise", "control": True}}, r"model\.refine\.control"),
        ({"aux": [{"stage": 4}, {"stage": 4}]}, r"model\.aux: two heads at one stage"),
        ({"aux": [{"weight": 0}]}, r"model\.aux: the head at stage 4 has weight 0 from first to last"),
        ({"name": "segformer", "encoder": "mit_b0", "aux": [{"stage": 1}]}, "no map at stage 1, but at 2, 3, 4, 5"),
        ({"weights": "imagenets"}, r"model\.weights: imagenets is neither .* resnet18 has imagenet"),
    ],
)
def test_a_combination_that_makes_no_sense_says_why(chosen: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        models.build(config.Model.model_validate(chosen), CLASSES)
