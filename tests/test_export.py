"""A run as ONNX gives what torch gives."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from carpus import config, data, export, run, train
from carpus.cli import app
from carpus.errors import ConfigError, DataError
from carpus.formats import images
from carpus.predict import Predictor, fabric

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> export.Exported:
    return export.export(run.read(trained), tmp_path_factory.mktemp("onnx") / "m.onnx")


def test_the_file_is_dynamic_and_close_to_torch(exported: export.Exported) -> None:
    assert exported.dynamic
    assert exported.difference < 1e-5
    assert [path.name for path in exported.path.parent.iterdir()] == ["m.onnx"]


ADDED = {
    "shuffled": ["model.down={}", "model.up={}", "model.refine={kind: attention}", "model.aux=[{stage: 4}]"],
    "strided": [
        "model.down={kind: strided}",
        "model.up={kind: transposed}",
        "model.refine={kind: depthwise}",
        "model.calibration=true",
    ],
}
"""Every addition with a graph of its own; the other refinements are plain convolutions."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ADDED)
def test_every_addition_is_dynamic_too(
    name: str, dataset: Path, tiny: Callable[..., config.Config], tmp_path: Path
) -> None:
    settings = tiny("model.stride=4", "train.steps=1", "data.image_size=128", *ADDED[name])
    train.train(settings, dataset, tmp_path / "run")
    shown = CliRunner().invoke(app, ["export", str(tmp_path / "run"), "--onnx", str(tmp_path / "m.onnx")])
    assert shown.exit_code == 0, shown.output
    assert "any side that 64 divides" in shown.output


def test_onnxruntime_finds_the_bones_that_torch_finds(trained: Path, dataset: Path, exported: export.Exported) -> None:
    found = run.read(trained)
    # In float32: with bfloat16, which "auto" takes where the processor has it, 4 % of these pixels differ.
    launcher = fabric("cpu", "32")
    ours = Predictor(found.network(), image_size=found.settings.data.image_size, classes=29, launcher=launcher)
    theirs = export.OnnxModel(exported.path)
    for case in data.read(dataset).test[:2]:
        image = images.read(case.image)[:, :80]
        a, b = theirs(image), ours(image)
        assert a.shape == image.shape
        # A network of three steps says nearly one half everywhere; still hardly a pixel lies within rounding of it.
        assert np.count_nonzero(a != b) < 0.001 * a.size
    assert theirs.classes == found.classes


def test_the_pages_example_runs(exported: export.Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "prediction.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(exported.path.parent)
    names = {"image": np.zeros((40, 50), np.uint8)}
    exec(example.replace("model.onnx", "m.onnx"), names)
    assert names["labels"].shape == (40, 50)


def test_what_differs_from_torch_is_not_kept(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_difference", lambda *_: float("nan"))
    monkeypatch.setattr(export, "_tried", lambda *_: [(1, 64)])
    with pytest.raises(DataError, match="differ from torch's by nan of the largest"):
        export.export(run.read(trained), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_export_is_named(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"none")
    with pytest.raises(DataError, match=r"m\.onnx: is no ONNX file of `carpus export`"):
        export.OnnxModel(tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match=r"\.onnx"):
        export.export(run.read(trained), tmp_path / "m.pt")
