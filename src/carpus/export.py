"""A run as an ONNX file, checked against torch before it is kept, and predictions with it in onnxruntime.

Dimension key: B batch, K classes, S side of the canvas, h w logit resolution.

The file takes ``images`` (B, 1, S, S) float32 of grey values 0 to 1 and gives ``logits`` (B, K, h, w); normalisation is
inside, thresholding is not: `kernels.run_lengths` does that on the logits, which is faster than any graph of full-size
planes. Batch and size are dynamic where the network allows it, and the size stays a multiple of `Exported.multiple`.
"""

import json
import logging
import warnings
from collections.abc import Sequence
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
        dynamic: whether the file takes other sizes, too.
        multiple: what these must be multiples of.
        difference: the largest difference from torch's logits, as a share of the largest of them (or of 1, if that is
            more), over the batches that were tried.
    """

    path: Path
    image_size: int
    dynamic: bool
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

    Returns:
        What was written; `Exported.dynamic` is False for a network that takes one size only.

    Raises:
        ConfigError: onnx, onnxscript or onnxruntime is not installed, or the name has another suffix.
        DataError: the file does not give what torch gives; nothing is kept.
    """
    onnx, runtime = _packages()
    if path.suffix != ".onnx":
        raise ConfigError(f"{path}: expected a name that ends in .onnx")
    network, size = _Network(trained.network()).eval(), trained.settings.data.image_size
    multiple = models.multiple(trained.settings.model)
    facts = {"classes": json.dumps(list(trained.classes.names)), "image_size": str(size), "format": "carpus 1"}
    with files.atomic(path) as temporary:
        dynamic = _write(network, temporary, size, multiple)
        model = onnx.load(temporary)
        for key, value in facts.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        onnx.save(model, temporary)
        session = runtime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        difference = max(_difference(network, session, shape) for shape in _tried(size, dynamic, multiple))
        if not difference <= TOLERANCE:
            raise DataError(
                f"{path}: its logits differ from torch's by {difference:.2g} of the largest; it is not kept"
            )
    return Exported(path, size, dynamic, multiple, difference)


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


def _write(network: nn.Module, path: Path, size: int, multiple: int) -> bool:
    """Write the graph; returns whether its size is dynamic."""
    # A batch of two: an axis of one is taken for a constant.
    example = torch.zeros(2, 1, size, size)
    batch, side = torch.export.Dim("batch", min=1, max=1024), torch.export.Dim("side", min=2, max=128)
    for axes in ({0: batch, 2: multiple * side, 3: multiple * side}, {0: batch}):
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # deprecations inside torch and onnxscript
                torch.onnx.export(
                    network,
                    (example,),
                    path,
                    input_names=["images"],
                    output_names=["logits"],
                    dynamic_shapes=({**axes},),
                    dynamo=True,
                    external_data=False,
                    verbose=False,
                )
            return 2 in axes
        except Exception:  # what torch.export raises where a network fixes its size has no common class
            if 2 not in axes:
                raise
    raise AssertionError


def _tried(size: int, dynamic: bool, multiple: int) -> Sequence[tuple[int, int]]:
    return [(1, size), (3, size), *([(2, size + multiple)] if dynamic else [])]


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
