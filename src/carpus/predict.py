"""Images to label maps with a trained network.

Dimension key: K classes, H W image resolution, S side of the network's square input.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from carpus import data, kernels, run
from carpus.devices import fabric
from carpus.errors import DataError
from carpus.formats import Labelled, convert, images
from carpus.labels import LabelMap

Key = TypeVar("Key")


def network_input(pictures: Tensor, launcher: Fabric) -> Tensor:
    """Images (B, 1, S, S) in 0..1 as every network is fed, in training and after: normalised, on the device."""
    return launcher.to_device(data.normalise(pictures).contiguous(memory_format=torch.channels_last))


class Predictor:
    """Turns images into label maps at their own size.

    Args:
        network: images (B, 1, S, S) -> Output, in evaluation mode.
        image_size: S.
        classes: K; a class is where its probability is above one half.
        launcher: device and precision, see `fabric`.
    """

    def __init__(self, network: nn.Module, *, image_size: int, classes: int, launcher: Fabric) -> None:
        self._network = launcher.to_device(network).to(memory_format=torch.channels_last)
        self._size, self._launcher = image_size, launcher
        self._thresholds = torch.full((classes,), 0.5)

    @classmethod
    def of(cls, trained: run.Run, device: str = "auto") -> "Predictor":
        """The predictor of a finished run."""
        settings = trained.settings
        return cls(
            trained.network(),
            image_size=settings.data.image_size,
            classes=len(trained.classes),
            launcher=fabric(device, settings.train.precision),
        )

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8]) -> LabelMap:
        """Label map (H, W) int32 of an image (H, W) uint8."""
        height, width = image.shape
        canvas = torch.from_numpy(data.square(image, self._size)).float().div_(255)[None, None]
        with self._launcher.autocast():
            logits = self._network(network_input(canvas, self._launcher)).logits
        side = max(height, width)
        labels = kernels.threshold(logits.float(), self._thresholds, (side, side))
        return np.ascontiguousarray(labels[0].cpu().numpy()[:height, :width])

    def many(self, items: Iterable[tuple[Key, Callable[[], NDArray[np.uint8]]]]) -> Iterator[tuple[Key, LabelMap]]:
        """Label maps of many images in order; the next image is decoded while the network is at work.

        Args:
            items: a key of any kind, and what reads its image.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="decode") as pool:
            waiting = []
            for key, load in items:
                waiting.append((key, pool.submit(load)))
                if len(waiting) > 1:
                    done, image = waiting.pop(0)
                    yield done, self(image.result())
            for done, image in waiting:
                yield done, self(image.result())


def predict(
    trained: run.Run,
    pictures: Path,
    out: Path,
    *,
    device: str = "auto",
    target_format: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> int:
    """Predict every image below `pictures` and write them to `out`; returns how many.

    Args:
        trained: a finished run.
        pictures: an image file or a folder of them.
        out: a ``.csv`` becomes a submission, a ``.json`` COCO, a folder annotations; see `convert.write`.
        device: auto, cpu or cuda.
        target_format: one of the formats of `carpus convert`, where `out` does not tell.
        progress: called with (images done, images in all).

    Raises:
        DataError: no image there, or one that cannot be read; nothing is left at `out` then.
    """
    found = images.find(pictures)
    if not found:
        raise DataError(f"{pictures}: no image there; expected PNG, JPEG, BMP, TIFF or DICOM files")
    root = pictures if pictures.is_dir() else pictures.parent
    names = [path.relative_to(root).as_posix() for path in found]

    def labelled() -> Iterator[Labelled]:
        predictor = Predictor.of(trained, device)
        items = [(name, lambda path=path: data.read_image(path)) for name, path in zip(names, found, strict=True)]
        for done, (name, labels) in enumerate(predictor.many(items), start=1):
            yield Labelled(name, labels)
            if progress:
                progress(done, len(found))

    convert.write(out, labelled(), trained.classes, target_format=target_format, names=names)
    return len(found)
