"""A run as ONNX gives what torch gives."""

import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from carpus import config, data, export, models, run
from carpus.cli import app
from carpus.errors import ConfigError, DataError
from carpus.formats import images
from carpus.labels import BONES
from carpus.models import weights
from carpus.predict import Options, Predictor

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def small(settings: config.Config, folder: Path, **more: Any) -> run.Run:
    """A run of random weights with not a layer more than it takes: the exporter's time goes with them."""
    model = config.Model(**{"name": "fcn", "encoder": "tu-test_efficientnet", **more})
    torch.manual_seed(0)
    network = models.build(model, len(BONES))
    with torch.no_grad():  # additions begin as no-ops: a graph without them would be right, too
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        network.get_parameter("head.bias").zero_()  # which begins so low that nothing is found
    weights.save(network, folder / run.WEIGHTS)
    return run.Run(folder, settings.model_copy(update={"model": model}), BONES, {})


@pytest.fixture(scope="module")
def unet(tiny: Callable[..., config.Config], tmp_path_factory: pytest.TempPathFactory) -> run.Run:
    return small(tiny(), tmp_path_factory.mktemp("unet"), name="unet", decoder_channels=(8, 8, 8, 8, 8))


@pytest.fixture(scope="module")
def exported(unet: run.Run, tmp_path_factory: pytest.TempPathFactory) -> export.Exported:
    return export.export(unet, tmp_path_factory.mktemp("onnx") / "m.onnx")


def test_the_file_is_dynamic_and_close_to_torch(exported: export.Exported) -> None:
    assert exported.fixed_because is None
    assert exported.difference < 1e-5
    assert [path.name for path in exported.path.parent.iterdir()] == ["m.onnx"]


ADDED: dict[str, dict[str, Any]] = {
    "shuffled": {"down": {}, "up": {}, "refine": {"kind": "attention"}, "aux": [{"stage": 4}]},
    "strided": {
        "down": {"kind": "strided"},
        "up": {"kind": "transposed"},
        "refine": {"kind": "depthwise"},
        "calibration": True,
    },
}
"""Every addition with a graph of its own; the other refinements are plain convolutions."""


@pytest.mark.parametrize("name", ADDED)
def test_every_addition_is_dynamic_too(name: str, tiny: Callable[..., config.Config], tmp_path: Path) -> None:
    made = export.export(small(tiny(), tmp_path, **ADDED[name]), tmp_path / "m.onnx")
    assert (made.fixed_because, made.multiple) == (None, 64)
    assert made.difference < 1e-5


def answers(monkeypatch: pytest.MonkeyPatch, answer: Callable[[NDArray[np.float32], Any], Any]) -> None:
    """onnxruntime gives what `answer` makes of the images and of its logits."""

    class Session(onnxruntime.InferenceSession):
        def run(self, names: list[str], inputs: dict[str, NDArray[np.float32]]) -> list[Any]:
            return [answer(inputs["images"], super().run(names, inputs)[0])]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)


def test_what_fails_at_other_sides_takes_one_and_says_so(
    tiny: Callable[..., config.Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = small(tiny(), tmp_path)

    def at_64(images: NDArray[np.float32], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        if images.shape[-1] != 64:
            raise RuntimeError("a node that fixes its size\nand more of it")
        return logits

    with monkeypatch.context() as patched:
        answers(patched, at_64)
        patched.setattr(run, "read", lambda path: one)
        shown = CliRunner().invoke(app, ["export", "RUN", "--onnx", str(tmp_path / "m.onnx")])
    assert shown.exit_code == 0, shown.output
    why = "with other sides it cannot be run: RuntimeError: a node that fixes its size"
    assert f"any batch, sides of 64 only ({why})" in shown.output
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert session.get_inputs()[0].shape == ["batch", 1, 64, 64]


def test_onnxruntime_finds_the_bones_that_torch_finds(unet: run.Run, dataset: Path, exported: export.Exported) -> None:
    # In float32: with bfloat16, which "auto" takes where the processor has it, 4 % of these pixels differ.
    ours = Predictor.of(unet, "cpu", Options(precision="32"))
    theirs = export.OnnxModel(exported.path)
    for case in data.read(dataset).test[:2]:
        image = images.read(case.image)[:, :80]
        a, b = theirs(image), ours(image)
        assert a.shape == image.shape
        assert b.any()
        # A network of random weights says nearly one half everywhere; still hardly a pixel lies within rounding of it.
        assert np.count_nonzero(a != b) < 0.001 * a.size
    assert theirs.classes == unet.classes


def test_the_pages_example_runs(exported: export.Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "prediction.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(exported.path.parent)
    names = {"image": np.zeros((40, 50), np.uint8)}
    exec(example.replace("model.onnx", "m.onnx"), names)
    assert names["labels"].shape == (40, 50)


def test_what_differs_from_torch_in_any_batch_is_not_kept(
    tiny: Callable[..., config.Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, lambda images, logits: logits if len(images) == 1 else np.full_like(logits, np.nan))
    (tmp_path / "out").mkdir()
    with pytest.raises(
        DataError, match=r"m\.onnx: its logits differ from torch's by nan of the largest; it is not kept"
    ):
        export.export(small(tiny(), tmp_path), tmp_path / "out" / "m.onnx")
    assert not list((tmp_path / "out").iterdir())


def test_predicting_takes_onnxruntime_alone_and_writing_all(
    unet: run.Run, exported: export.Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnx", "onnxscript"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, name, None)
            assert export.OnnxModel(exported.path).classes == BONES
            with pytest.raises(ConfigError, match="needs onnx and onnxscript"):
                export.export(unet, tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match="needs onnxruntime"):
        export.OnnxModel(exported.path)
    with pytest.raises(ConfigError, match="needs onnxruntime"):
        export.export(unet, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_an_export_leaves_the_levels_of_loggers(exported: export.Exported) -> None:
    assert {logging.getLogger(name).level for name in ("onnxscript", "onnx_ir", "torch.onnx")} == {logging.NOTSET}


def test_a_file_that_is_no_export_is_named(unet: run.Run, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"none")
    with pytest.raises(DataError, match=r"m\.onnx: is no ONNX file of `carpus export`"):
        export.OnnxModel(tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match=r"\.onnx"):
        export.export(unet, tmp_path / "m.pt")


def test_a_file_of_another_format_is_refused(exported: export.Exported, tmp_path: Path) -> None:
    model = onnx.load(exported.path)
    [form] = [entry for entry in model.metadata_props if entry.key == "format"]
    form.value = "carpus 2"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(DataError, match=r"m\.onnx: format: expected 'carpus 1', got 'carpus 2'"):
        export.OnnxModel(tmp_path / "m.onnx")
