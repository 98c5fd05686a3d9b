"""A run as an ONNX file, checked against torch before it is kept, and predictions with it in onnxruntime.

Dimension key: B batch, K classes, S side of the canvas, h w logit resolution.

The file takes ``images`` (B, 1, S, S) float32 of grey values 0 to 1 and gives ``logits`` (B, K, h, w); normalisation is
inside, thresholding is not: `kernels.run_lengths` does that on the logits, which is faster than any graph of full-size
planes. Batch and size are dynamic where the network allows it, and the size stays a multiple of `Exported.multiple`.
"""

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
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
"""The largest difference from torch's logits, as a share of the largest of them, at which a file is kept.

Both sides compute in float32, in different orders; torch alone differs from float64 by about 1e-6 of it.
"""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        path: the file.
        image_size: S that the run was trained with.
        fixed: why the file takes no other size; None where it does.
        multiple: what other sizes must be multiples of.
        difference: the largest difference from torch's logits, as a share of the largest of them (or of 1, if that is
            more), over the batches that were tried.
    """

    path: Path
    image_size: int
    fixed: str | None
    multiple: int
    difference: float


class _Network(nn.Module):
    """The network with its normalisation, from images to bare logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 1, S, S) in 0..1 to logits (B, K, h, w)."""
        return self.network(data.normalise(images)).logits


def export(trained: run.Run, path: Path) -> Exported:
    """Write a run as ONNX, whole or not at all.

    Two batches of random images, one of another size where that is dynamic, go through torch and through onnxruntime.

    Args:
        trained: a finished run.
        path: the ``.onnx`` file.

    If no file can be written, run and found right that takes other sizes, one that takes S only is tried.

    Returns:
        What was written.

    Raises:
        ConfigError: onnx, onnxscript or onnxruntime is not installed, or the name has another suffix.
        DataError: no file gives what torch gives; nothing is kept.
    """
    if path.suffix != ".onnx":
        raise ConfigError(f"{path}: expected a name that ends in .onnx")
    network, size = _Network(trained.network()).eval(), trained.settings.data.image_size
    multiple = models.multiple(trained.settings.model)
    facts = {"classes": json.dumps(list(trained.classes.names)), "image_size": str(size), "format": "carpus 1"}
    fixed = None
    with files.atomic(path) as temporary:
        try:
            difference = _checked(network, temporary, facts, [(1, size), (3, size), (2, size + multiple)], multiple)
        except _UnusableError as refused:
            fixed = str(refused)
            try:
                difference = _checked(network, temporary, facts, [(1, size), (3, size)])
            except _UnusableError as error:
                raise DataError(f"{path}: {error}; it is not kept") from error
    return Exported(path, size, fixed, multiple, difference)


class OnnxModel:
    """A file of `export` in onnxruntime, with Carpus' own thresholding.

    Args:
        path: the ``.onnx`` file.

    Raises:
        ConfigError: onnxruntime is not installed.
        DataError: the file cannot be loaded, or is not from `export`.
    """

    def __init__(self, path: Path | str) -> None:
        _, runtime = _packages()
        try:
            self._session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
            facts = self._session.get_modelmeta().custom_metadata_map
            self.classes = Classes(tuple(json.loads(facts["classes"])))
            self.image_size = int(facts["image_size"])
        except Exception as error:  # onnxruntime raises whatever its parsing stumbles over
            raise DataError(f"{path}: is no ONNX file of `carpus export` ({type(error).__name__})") from error
        self._thresholds = torch.full((len(self.classes),), 0.5)

    def __call__(self, image: NDArray[np.uint8]) -> LabelMap:
        """Label map (H, W) int32 of an image (H, W) uint8."""
        canvas = data.square(images.require(image), self.image_size)[None, None].astype(np.float32) / np.float32(255)
        logits = self._session.run(["logits"], {"images": canvas})[0]
        return labels_of(torch.from_numpy(logits), self._thresholds, image.shape)


class _UnusableError(Exception):
    """A file that cannot be written, or does not give what torch gives."""


def _checked(
    network: nn.Module,
    path: Path,
    facts: Mapping[str, str],
    shapes: Sequence[tuple[int, int]],
    multiple: int | None = None,
) -> float:
    """Write the graph and run it on batches of random images.

    Args:
        network: images to logits.
        path: the file.
        facts: what is written beside the graph.
        shapes: (B, S) of the batches.
        multiple: of which the sizes are that the file shall take; None for that of the first batch alone.

    Returns:
        The largest difference from torch's logits, see `Exported`.

    Raises:
        _UnusableError: it cannot be written, cannot be run, or differs too much.
    """
    onnx, runtime = _packages()
    try:
        _write(network, path, shapes[0][1], multiple)
    except Exception as error:  # what torch.export raises where a network fixes its size has no common class
        raise _UnusableError(f"torch cannot write it ({type(error).__name__})") from error
    model = onnx.load(path)
    for key, value in facts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, path)
    try:
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        difference = max(_difference(network, session, shape) for shape in shapes)
    except Exception as error:  # neither have those of onnxruntime
        raise _UnusableError(f"it cannot be run ({type(error).__name__})") from error
    if not difference <= TOLERANCE:
        raise _UnusableError(f"its logits differ from torch's by {difference:.2g} of the largest")
    return difference


def _write(network: nn.Module, path: Path, size: int, multiple: int | None) -> None:
    axes: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=1024)}
    if multiple is not None:
        axes[2] = axes[3] = multiple * torch.export.Dim("side", min=2, max=128)
        size = max(size, 2 * multiple)
    # A batch of two and a side of twice the multiple: what is one in the example is taken for a constant.
    example = torch.zeros(2, 1, size, size)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations inside torch and onnxscript
        torch.onnx.export(
            network,
            (example,),
            path,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=(axes,),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _difference(network: nn.Module, session: Any, shape: tuple[int, int]) -> float:
    images = torch.rand(shape[0], 1, shape[1], shape[1], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images).numpy()
    found = session.run(["logits"], {"images": images.numpy()})[0]
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1))


def _packages() -> tuple[Any, Any]:
    for name in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (torch asks for it)
    except ImportError as error:
        raise ConfigError("export: needs onnx, onnxscript and onnxruntime: pip install 'carpus[onnx]'") from error
    return onnx, onnxruntime
