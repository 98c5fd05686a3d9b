"""Images to label maps with one trained network or several.

Everything stays at the logits' resolution until `kernels` turns it into labels, so no stack of K planes of the image's
size exists. Dimension key: K classes, M members, H W image resolution, h w logit resolution, S side of the network's
square input.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from carpus import data, ensemble, kernels, run
from carpus.blend import Kind, Mean, weighted
from carpus.devices import fabric
from carpus.errors import ConfigError, warn
from carpus.kernels import Runs
from carpus.labels import Classes, LabelMap
from carpus.postprocess import Calibration
from carpus.precision import CHOICES, PRECISIONS, Precision
from carpus.tiles import GRID, Tiles, blended
from carpus.views import PLAIN, View

Blend = Literal["probabilities", "logits", "votes"]
"""How the answers of several networks become one."""

Key = TypeVar("Key")
Decoded = TypeVar("Decoded")
Found = TypeVar("Found")


def network_input(pictures: Tensor, launcher: Fabric) -> Tensor:
    """Images (B, 1, S, S) in 0..1 as every network is fed, in training and after: normalised, on the device."""
    return launcher.to_device(data.normalise(pictures).contiguous(memory_format=torch.channels_last))


@dataclass(frozen=True)
class Options:
    """How images are shown to networks, and how several answers become one.

    Args:
        canvas: side in pixels of the square an image is resized to, a multiple of 32; None takes each run's
            `data.image_size`.
        tiles: sliding windows over the canvas; None shows it whole.
        views: test-time augmentation, see `views.views`.
        blend: what is averaged over the runs; for votes the views of each run are averaged as probabilities, and a
            pixel belongs to a class if more than half of the votes say so.
        batch: tiles shown at once, 1 or more.
        weights: what each run counts, see `ensemble.votes`; all alike by default.
        precision: see `precision.Precision`; None takes each run's `train.precision`, whose default, auto, is not the
            same on every machine.

    Raises:
        ConfigError: a canvas, a blend, a batch or a precision that cannot be, or no view.
    """

    canvas: int | None = None
    tiles: Tiles | None = None
    views: tuple[View, ...] = (PLAIN,)
    blend: Blend = "probabilities"
    batch: int = 1
    weights: tuple[ensemble.Weight, ...] = ()
    precision: Precision | None = None

    def __post_init__(self) -> None:
        if self.canvas is not None and (self.canvas < GRID or self.canvas % GRID):
            raise ConfigError(f"canvas: expected a multiple of {GRID} pixels, got {self.canvas}")
        if self.blend not in get_args(Blend):
            raise ConfigError(f"blend: expected probabilities, logits or votes, got {self.blend}")
        if self.batch < 1:
            raise ConfigError(f"batch: expected 1 or more, got {self.batch}")
        if self.precision not in (None, *PRECISIONS):
            raise ConfigError(f"precision: expected {CHOICES}, got {self.precision}")
        if not self.views:
            raise ConfigError("views: expected at least one; the image as it is, is carpus.views.PLAIN")

    def facts(self) -> dict[str, Any]:
        """What the result depends on, as JSON has it: all but `batch`."""
        facts = json.loads(json.dumps(asdict(self)))
        del facts["batch"]
        return facts


class Predictor:
    """One network, and how it is shown an image: whole or in tiles, from one view or several.

    Args:
        network: images (B, 1, S, S) -> Output, in evaluation mode.
        image_size: S.
        classes: K; a class is where its probability is above one half.
        launcher: device and precision, see `fabric`.
        tiles: sliding windows over the S x S canvas; None shows it whole.
        views: what is averaged, see `views.views`; the first must see everything.
        blend: whether views are averaged as probabilities or as logits.
        batch: tiles shown at once.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        image_size: int,
        classes: int,
        launcher: Fabric,
        tiles: Tiles | None = None,
        views: Sequence[View] = (PLAIN,),
        blend: Kind = "probabilities",
        batch: int = 1,
    ) -> None:
        self._network = launcher.to_device(network).to(memory_format=torch.channels_last)
        self._size, self._launcher = image_size, launcher
        self._tiles, self._views, self._batch = tiles, tuple(views), batch
        self._blend: Kind = blend
        self._thresholds = torch.full((classes,), 0.5)

    @classmethod
    def of(cls, trained: run.Run, device: str = "auto", options: Options | None = None) -> "Predictor":
        """The predictor of a finished run."""
        settings, shown = trained.settings, options or Options()
        learnt_on = settings.data.crop or settings.data.image_size
        if shown.tiles and 2 * shown.tiles.size <= learnt_on:
            warn(
                f"tile: {shown.tiles.size} pixels are half or less of the {learnt_on} that {trained.path} learnt on, "
                "and may show too little; measure it with carpus evaluate"
            )
        return cls(
            trained.network(),
            image_size=shown.canvas or settings.data.image_size,
            classes=len(trained.classes),
            launcher=fabric(device, shown.precision or settings.train.precision),
            tiles=shown.tiles,
            views=shown.views,
            blend="logits" if shown.blend == "logits" else "probabilities",
            batch=shown.batch,
        )

    @torch.inference_mode()
    def logits(self, image: NDArray[np.uint8]) -> Tensor:
        """Logits (1, K, h, w) float32 of an image (H, W) uint8; they cover the square of its longer side."""
        mean = Mean(self._blend)
        for view in self._views:
            side = max(round(self._size * view.scale / GRID), 1) * GRID if view.scale != 1 else self._size
            canvas = torch.from_numpy(data.square(image, side)).float().div_(255)[None, None]
            logits = blended(self._raw, view.see(canvas), self._tiles, self._batch)
            if len(self._views) == 1 and view == PLAIN:
                return logits
            laid, seen = view.back(logits)
            mean.add(laid, seen=seen)
        return mean.logits()

    def _raw(self, pictures: Tensor) -> Tensor:
        with self._launcher.autocast():
            return self._network(network_input(pictures, self._launcher)).logits

    def __call__(self, image: NDArray[np.uint8]) -> LabelMap:
        """Label map (H, W) int32 of an image (H, W) uint8."""
        return labels_of(self.logits(image), self._thresholds, image.shape)


class Ensemble:
    """Several predictors that answer as one; one alone is an ensemble, too.

    Args:
        members: M predictors of the same classes.
        classes: the K classes.
        blend: see `Options`.
        weights: see `ensemble.votes`.
        calibration: temperatures, thresholds and repairs; one, one half and none by default.
    """

    def __init__(
        self,
        members: Sequence[Predictor],
        classes: Classes,
        *,
        blend: Blend = "probabilities",
        weights: NDArray[np.float64] | Sequence[ensemble.Weight] = (),
        calibration: Calibration | None = None,
    ) -> None:
        self.classes, self.calibration = classes, calibration or Calibration({}, classes)
        self._members = tuple(members)
        self._blend: Blend = blend
        self._weights = ensemble.votes(weights, len(self._members), classes)
        self._thresholds = self.calibration.thresholds()

    @classmethod
    def of(
        cls,
        runs: Sequence[run.Run],
        device: str = "auto",
        options: Options | None = None,
        *,
        calibration: Calibration | None = None,
    ) -> "Ensemble":
        """The ensemble of finished runs.

        Raises:
            ConfigError: no run, runs of different classes, or settings that cannot be.
        """
        if not runs:
            raise ConfigError("ensemble: expected at least one run")
        options = options or Options()
        weights: NDArray[np.float64] | Sequence[ensemble.Weight] = options.weights
        if calibration:
            hashes = [each.manifest["files"][run.WEIGHTS] for each in runs]
            own = calibration.weights_of(hashes)
            if own is not None and options.weights:
                raise ConfigError("weights: the calibration has its own; leave out one of the two")
            weights = weights if own is None else own
            calibration.doubt(hashes, options.facts())
        for other in runs[1:]:
            if other.classes != runs[0].classes:
                raise ConfigError(f"{other.path}: has other classes than {runs[0].path}; they cannot be averaged")
        if options.blend == "votes" and not len(weights):
            ensemble.doubt_even(len(runs))
        members = [Predictor.of(each, device, options) for each in runs]
        return cls(members, runs[0].classes, blend=options.blend, weights=weights, calibration=calibration)

    @torch.inference_mode()
    def look(self, image: NDArray[np.uint8]) -> list[Tensor]:
        """What the networks say of an image (H, W) uint8: the mean logits (1, K, h, w), or M logits that will vote.

        The temperatures are taken in, before the mean.
        """
        found = (self.calibration.tempered(member.logits(image)) for member in self._members)
        if len(self._members) == 1 or self._blend == "votes":
            return list(found)
        return [weighted(found, self._weights, self._blend)]

    def runs(self, looked: Sequence[Tensor], size: tuple[int, ...]) -> list[Runs]:
        """The runs of every class in an image of `size` (H, W), from what `look` gave."""
        found = [self._runs(logits, size) for logits in looked]
        if len(found) > 1:
            found[0] = [
                ensemble.vote(masks, weights.tolist())
                for masks, weights in zip(zip(*found, strict=True), self._weights.T, strict=True)
            ]
        if self.calibration.shapes:
            repaired = self.calibration.repaired(kernels.decode(found[0], (size[0], size[1])))
            found[0] = kernels.encode(repaired, len(self.classes))
        return found[0]

    def _runs(self, logits: Tensor, size: tuple[int, ...]) -> list[Runs]:
        if size[0] == size[1]:
            return kernels.run_lengths(logits, self._thresholds, (size[0], size[1]))[0]
        return kernels.encode(labels_of(logits, self._thresholds, size), len(self.classes))

    def probabilities(self, looked: Sequence[Tensor]) -> Tensor:
        """(K, h, w) float32 on the CPU: calibrated, at the logits' resolution; for votes the mean of the members."""
        mean = weighted(looked, self._weights, "probabilities") if len(looked) > 1 else looked[0]
        return torch.sigmoid(mean)[0].cpu()

    def __call__(self, image: NDArray[np.uint8]) -> LabelMap:
        """Label map (H, W) int32 of an image (H, W) uint8."""
        return kernels.decode(self.runs(self.look(image), image.shape), (image.shape[0], image.shape[1]))


def labels_of(logits: Tensor, thresholds: Tensor, size: tuple[int, ...]) -> LabelMap:
    """The label map (H, W) of logits (1, K, h, w) that cover the square of the longer side of an image of `size`."""
    height, width = size
    side = max(height, width)
    labels = kernels.threshold(logits, thresholds, (side, side))
    return np.ascontiguousarray(labels[0, :height, :width].cpu().numpy())


def in_turn(
    predictor: Callable[[NDArray[np.uint8]], Found], items: Iterable[tuple[Key, Callable[[], NDArray[np.uint8]]]]
) -> Iterator[tuple[Key, Found]]:
    """What is found in many images, in order; the next image is decoded while the network is at work.

    Args:
        predictor: image (H, W) uint8 to a label map, or to logits.
        items: a key of any kind, and what reads its image.
    """
    for key, image in decoded(items):
        yield key, predictor(image.result())


def decoded(
    items: Iterable[tuple[Key, Callable[[], Decoded]]], ahead: int = 1
) -> Iterator[tuple[Key, Future[Decoded]]]:
    """Every key with its image under way; `ahead` further images are decoded at the same time."""
    with ThreadPoolExecutor(ahead, thread_name_prefix="decode") as pool:
        waiting: deque[tuple[Key, Future[Decoded]]] = deque()
        try:
            for key, load in items:
                waiting.append((key, pool.submit(load)))
                if len(waiting) > ahead:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for _, image in waiting:
                image.cancel()
