"""Steps until each architecture, at its smallest and from random weights, has learnt four phantom images by heart.

    python -m benchmarks.convergence [NAME ...] [--steps 600] [--rate 0.002]

Images and labels are of 256 pixels where logits come at stride 8, else of 128, so that the smallest bones are larger
than a logit. Dice is that of the images learnt, at the labels' resolution, with the statistics of the batch; it is
looked at every 20 steps.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from carpus import augment, config, data, gates, losses, models, phantom
from carpus.batches import Batches
from carpus.labels import BONES
from carpus.predict import fabric

SMALL: dict[str, dict[str, Any]] = {
    "unet": {"decoder_channels": (128, 64, 48, 32, 16), "stride": 2},
    "unetplusplus": {"decoder_channels": (64, 48, 32, 32, 16)},
    "fcn": {},
    "deeplabv3": {},
    "deeplabv3plus": {"decoder_channels": (128,)},
    "upernet": {"decoder_channels": (128,)},
    "upernet-convnext": {"name": "upernet", "encoder": "tu-convnext_atto", "decoder_channels": (128,)},
    "upernet-swin": {"name": "upernet", "encoder": "tu-swin_tiny_patch4_window7_224", "decoder_channels": (128,)},
    "segformer": {"encoder": "mit_b0", "decoder_channels": (128,)},
    "hrnet": {"encoder": "hrnet_w18_small"},
    "beit": {"encoder": "beit_tiny"},
}


def four_images(size: int) -> data.Batch:
    """The four images of two phantom patients, unchanged."""
    unchanged = augment.Settings(
        rotation_deg=0, scale=0, shift=0, flip=False, gamma=0, contrast=0, brightness=0, noise=0, blur=0
    )
    with tempfile.TemporaryDirectory() as folder:
        phantom.write(Path(folder) / "data", patients=2, test_patients=0, size=size, seed=1)
        cases = data.read(Path(folder) / "data").train
        cache = data.Cache(BONES, size, size, 2**30)
        return Batches(cases, cache, unchanged, batch_size=4, seed=0)(0)


def learn(chosen: config.Model, batch: data.Batch, steps: int, rate: float) -> tuple[gates.Overfitting, float]:
    """Overfit `batch` and tell what came of it and the seconds it took."""
    torch.manual_seed(0)
    network = models.build(chosen, len(BONES))
    options = config.Train(learning_rate=rate)
    began = time.perf_counter()
    result = gates.overfit(
        network, batch, losses.build({"bce": 1, "dice": 1}), fabric("cpu", "32"), options, steps=steps
    )
    return result, time.perf_counter() - began


def main() -> None:
    """Print one line an architecture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SMALL)}; all if none is given")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rate", type=float, default=2e-3)
    arguments = parser.parse_args()
    batches = {size: four_images(size) for size in (128, 256)}
    for name in arguments.names or SMALL:
        chosen = config.Model.model_validate({"name": name, **SMALL[name]})
        size = 256 if chosen.name in ("fcn", "deeplabv3") else 128
        result, seconds = learn(chosen, batches[size], arguments.steps, arguments.rate)
        verdict = "" if result.reached else f"  not {result.goal}"
        text = f"Dice {result.dice:.3f} after {result.steps:4} steps, {seconds:.0f} s{verdict}"
        print(f"{name:18}{chosen.encoder:32}{size:4} px  {text}", flush=True)


if __name__ == "__main__":
    main()
