"""A run as an ONNX file, checked against torch before it is kept, and predictions with it in onnxruntime.

Dimension key: B batch, K classes, S side of the canvas, h w logit resolution.

The file takes ``images`` (B, 1, S, S) float32 of grey values 0 to 1 and gives ``logits`` (B, K, h, w); normalisation is
inside, thresholding is not: `kernels.run_lengths` does that on the logits, which is faster than any graph of full-size
planes. Batch and size are dynamic where the network allows it, and the size stays a multiple of `Exported.multiple`.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from carpus import data, models, run
from carpus.errors import ConfigError, DataError
from carpus.formats import files, images
from carpus.labels import Classes, LabelMap
from carpus.predict import labels_of

TOLERANCE = 1e-4
"""The largest difference from torch's logits, as a share of the largest of them (or of 1), at which a file is kept.

Both sides compute in float32, in different orders; torch alone differs from float64 by about 1e-6 of it.
"""

FORMAT = "carpus 1"
"""What a file says it is; `OnnxModel` reads no other."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        path: the file.
        image_size: S that the run was trained with.
        fixed_because: why the file takes no other size; None where it does.
        multiple: what other sizes must be multiples of.
        difference: the largest difference from torch's logits, as a share of the largest of them (or of 1, if that is
            more), over the batches that were tried.
    """

    path: Path
    image_size: int
    fixed_because: str | None
    multiple: int
    difference: float


class _Network(nn.Module):
    """The network with its normalisation, from images to bare logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """Images (B, 1, S, S) in 0..1 to logits (B, K, h, w)."""
        return self.network(data.normalise(pictures)).logits


def export(trained: run.Run, path: Path) -> Exported:
    """Write a run as ONNX, whole or not at all.

    Batches of random images, one of another size where that is dynamic, go through torch and through onnxruntime. If no
    file can be written, run and found right that takes other sizes, one that takes S only is tried.

    Args:
        trained: a finished run.
        path: the ``.onnx`` file.

    Returns:
        What was written.

    Raises:
        ConfigError: onnx, onnxscript or onnxruntime is not installed, or the name has another suffix.
        DataError: no file gives what torch gives; nothing is kept.
    """
    if path.suffix != ".onnx":
        raise ConfigError(f"{path}: expected a name that ends in .onnx")
    _require_exporter()
    network, size = _Network(trained.network()).eval(), trained.settings.data.image_size
    facts = {"classes": json.dumps(list(trained.classes.names)), "image_size": str(size), "format": FORMAT}
    dynamic, refused = models.multiple(trained.settings.model), None
    with files.atomic(path) as temporary:
        for multiple in (dynamic, None):
            try:
                difference = _attempt(network, temporary, facts, size, multiple)
                break
            except _UnusableError as error:
                refused = error
        else:
            raise DataError(f"{path}: {refused}; it is not kept") from refused
    return Exported(path, size, None if refused is None else str(refused), dynamic, difference)


class OnnxModel:
    """A file of `export` in onnxruntime, with Carpus' own thresholding.

    Args:
        path: the ``.onnx`` file.

    Raises:
        ConfigError: onnxruntime is not installed.
        DataError: the file cannot be loaded, or is not from `export`.
    """

    def __init__(self, path: Path | str) -> None:
        open_session = _runtime().InferenceSession
        try:
            self._session = open_session(path, providers=["CPUExecutionProvider"])
            facts = self._session.get_modelmeta().custom_metadata_map
            self.classes = Classes(tuple(json.loads(facts["classes"])))
            self.image_size = int(facts["image_size"])
            form = facts["format"]
        except Exception as error:  # onnxruntime raises whatever its parsing stumbles over
            raise DataError(f"{path}: is no ONNX file of `carpus export` ({type(error).__name__})") from error
        if form != FORMAT:
            raise DataError(f"{path}: format: expected {FORMAT!r}, got {form!r}; write it anew with `carpus export`")
        self._thresholds = torch.full((len(self.classes),), 0.5)

    def __call__(self, image: NDArray[np.uint8]) -> LabelMap:
        """Label map (H, W) int32 of an image (H, W) uint8."""
        canvas = data.square(images.require(image), self.image_size)[None, None].astype(np.float32) / np.float32(255)
        logits = self._session.run(["logits"], {"images": canvas})[0]
        return labels_of(torch.from_numpy(logits), self._thresholds, image.shape)


class _UnusableError(Exception):
    """A file that cannot be written, or does not give what torch gives."""


def _attempt(network: nn.Module, path: Path, facts: Mapping[str, str], size: int, multiple: int | None) -> float:
    """Write the graph and compare it with the network.

    Args:
        network: images to logits.
        path: the file.
        facts: what is written beside the graph.
        size: S of training.
        multiple: of which the sides are that the file shall take; None for S alone.

    Returns:
        The largest difference from torch's logits, see `Exported`.

    Raises:
        _UnusableError: it cannot be written, cannot be run, or differs too much.
    """
    _write(network, path, facts, size, multiple)
    shapes = [(1, size), (3, size)]
    if multiple is not None:
        shapes.append((2, size + multiple))
    difference = _difference(network, path, shapes)
    if not difference <= TOLERANCE:  # NaN is no agreement
        raise _UnusableError(f"its logits differ from torch's by {difference:.2g} of the largest")
    return difference


def _write(network: nn.Module, path: Path, facts: Mapping[str, str], size: int, multiple: int | None) -> None:
    # What is one in the example, or may be, torch takes for a constant: so two images, and twice the multiple.
    axes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if multiple is not None:
        axes[2] = axes[3] = multiple * torch.export.Dim("side", min=2)
        size = max(size, 2 * multiple)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                network,
                (torch.zeros(2, 1, size, size),),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=(axes,),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # what torch.export raises where a network fixes its size has no common class
        raise _UnusableError(f"torch cannot write it: {_first_line(error)}") from error
    assert program is not None  # for dynamo=True
    program.model.metadata_props.update(facts)
    program.save(path, external_data=False)


def _difference(network: nn.Module, path: Path, shapes: Sequence[tuple[int, int]]) -> float:
    """The largest difference, see `Exported`, over batches of random images of `shapes` (B, S); NaN if any has one."""
    batches = [torch.rand(b, 1, s, s, generator=torch.Generator().manual_seed(0)) for b, s in shapes]
    with torch.no_grad():
        expected = [network(batch).numpy() for batch in batches]
    open_session = _runtime().InferenceSession
    try:
        session = open_session(path, providers=["CPUExecutionProvider"])
        found = [session.run(["logits"], {"images": batch.numpy()})[0] for batch in batches]
    except Exception as error:  # those of onnxruntime have no common class either
        raise _UnusableError(f"it cannot be run: {_first_line(error)}") from error
    shares = [
        np.abs(theirs - ours).max() / max(np.abs(ours).max(), 1) for theirs, ours in zip(found, expected, strict=True)
    ]
    return float(np.max(shares))  # Python's max would lose a NaN that is not the first


def _first_line(error: Exception) -> str:
    """Class and first line, cut short, of an error, or of its cause: around that torch wraps a page of advice."""
    cause = error.__cause__ or error
    return ": ".join([type(cause).__name__, *(line[:200] for line in str(cause).strip().splitlines()[:1])])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the deprecations inside torch and onnxscript, and their notes on every step."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [each.level for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError("ONNX: needs onnxruntime: pip install 'carpus[onnx]'") from error
    return onnxruntime


def _require_exporter() -> None:
    """Raise a `ConfigError` unless there is what torch needs to write a file, and what checks it."""
    _runtime()
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError("export: needs onnx and onnxscript: pip install 'carpus[onnx]'") from error
