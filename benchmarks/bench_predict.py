"""From image files to a submission: the script that teams write against `carpus predict`, with the same network.

The logits are those of a synthetic hand, whatever the image: an untrained network says nothing, and both sides have to
find bones of a real size. With the network, its forward pass is computed and added nought times.

Last the same network with our thresholding in torch and in onnxruntime.
"""

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import inputs
from benchmarks.bench_threshold import differing, text_of
from benchmarks.measure import Comparison, require
from carpus import config, export, kernels, models, predict, run, segment
from carpus import labels as label_map
from carpus.formats import images, submission
from carpus.labels import BONES, LabelMap
from carpus.models import Output

SIZE, SIDE = (inputs.SIZE, inputs.SIZE), 512


class Drawn(nn.Module):
    """Says what a trained network would, and works as hard as `network` does."""

    def __init__(self, network: nn.Module | None) -> None:
        super().__init__()
        self.network = network
        self.drawn = nn.Buffer(inputs.logits())

    def forward(self, pictures: Tensor) -> Output:
        logits = self.drawn.expand(len(pictures), -1, -1, -1)
        return Output(logits if self.network is None else logits + 0 * self.network(pictures).logits.mean())


@torch.no_grad()
def usual(network: Drawn, folder: Path, out: Path) -> Path:
    """Batches of one, as at 2048 they mostly are: resize, forward, interpolate, sigmoid, threshold, encode, to_csv."""
    names, classes, rles = [], [], []
    for path in sorted(folder.glob("*.png")):
        image = np.asarray(cv2.imread(str(path)), np.float32) / 255
        image = cv2.resize(image, (SIDE, SIDE))[..., :1]
        pictures = (torch.from_numpy(image.transpose(2, 0, 1))[None] - 0.124) / 0.168
        logits = functional.interpolate(network.forward(pictures).logits, SIZE, mode="bilinear")
        masks = (torch.sigmoid(logits) > 0.5).detach().cpu().numpy()[0]
        for name, text in zip(BONES, text_of(masks), strict=True):
            names.append(path.name)
            classes.append(name)
            rles.append(text)
    pandas.DataFrame({"image_name": names, "class": classes, "rle": rles}).to_csv(out, index=False)
    return out


def ours(network: Drawn, folder: Path, out: Path) -> Path:
    launcher = predict.fabric("cpu", "32")
    member = predict.Predictor(network, image_size=SIDE, classes=len(BONES), launcher=launcher)
    work = predict.Ensemble([member], BONES)
    segment.segment_with(lambda: work, BONES, folder, out, identity="benchmark")
    return out


def equal(theirs: Path, mine: Path) -> str:
    a, b = (submission.read(path, BONES, SIZE) for path in (theirs, mine))
    told = {differing(inputs.logits(), *(kernels.decode(of[name], SIZE) for of in (a, b))) for name in a}
    return ", ".join(sorted(told))


def opened(folder: Path) -> run.Run:
    """A run of random weights: what a network says costs it nothing."""
    settings = config.load(["unet"], ["model.weights=null", "train.precision=32"])
    torch.manual_seed(0)
    safetensors.torch.save_model(models.build(settings.model, len(BONES)), str(folder / run.WEIGHTS))
    return run.Run(folder, settings, BONES, {})


def equal_labels(logits: Tensor, theirs: LabelMap, mine: LabelMap) -> str:
    """Two programs round differently, so pixels may differ whose logits are as near to nought as that."""
    planes = functional.interpolate(logits, SIZE, mode="bilinear", align_corners=False)[0]
    off = torch.from_numpy(label_map.unpack(theirs ^ mine, len(BONES)))
    near = export.TOLERANCE * max(float(logits.abs().max()), 1)
    require((planes[off].abs() < near).all(), f"pixels differ at logits up to {planes[off].abs().max():.1e}")
    return f"{int(off.sum())} of {off.numel()} pixels differ, each with a logit below {near:.0e}"


def comparisons(quick: bool) -> Iterator[Comparison]:
    folder = Path(tempfile.mkdtemp(prefix="carpus-benchmark-"))
    try:
        for n in range(1 if quick else 12):
            images.write(folder / f"{n}.png", inputs.hand(n).image, rgb=True)
        settings = config.load(["unet"], ["model.weights=null"]).model
        unet = models.build(settings, len(BONES)).eval()
        for name, network in (("without the network", None), (f"U-Net {settings.encoder} at {SIDE}", unet)):
            shown = Drawn(network).eval()
            yield Comparison(
                f"image files to submission, {name}",
                lambda shown=shown: usual(shown, folder, folder / "usual.csv"),
                lambda shown=shown: ours(shown, folder, folder / "ours.csv"),
                equal,
            )
        trained, image = opened(folder), inputs.hand().image
        export.export(trained, folder / "model.onnx")
        network, exported = predict.Predictor.of(trained, "cpu"), export.OnnxModel(folder / "model.onnx")
        yield Comparison(
            f"image to label map, U-Net {settings.encoder} at {trained.settings.data.image_size}, torch / onnxruntime",
            lambda: network(image),
            lambda: exported(image),
            partial(equal_labels, network.logits(image)),
        )
    finally:
        shutil.rmtree(folder)
