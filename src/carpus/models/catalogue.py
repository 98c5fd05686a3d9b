"""What `carpus models` lists: the networks of the report, strong ones beside them, and small ones for a CPU."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from carpus import config, models

CLASSES = 29

NOTE = (
    "size: parameters, for 29 classes. Sides of an image are multiples of 32. Weights may always be a local file or "
    "folder. batch >= 2: because of BatchNorm after image pooling; norm: group does without. Other encoders of "
    "segmentation-models-pytorch, or tu- and the name of a timm model, work with unet, unetplusplus, fcn, deeplabv3, "
    "deeplabv3plus and upernet."
)

POOLING = "batch >= 2"
ATTENTION = "side <= 1024"
OWN = "imagenet"

_LISTED: tuple[tuple[str, str, str, str], ...] = (
    ("unet", "resnet18", OWN, ""),
    ("unet", "resnet34", OWN, ""),
    ("unetplusplus", "resnet34", OWN, ""),
    ("fcn", "resnet18", OWN, ""),
    ("fcn", "resnet50", OWN, ""),
    ("fcn", "resnet101", OWN, ""),
    ("deeplabv3", "resnet18", OWN, POOLING),
    ("deeplabv3", "resnet50", OWN, POOLING),
    ("deeplabv3", "resnet101", OWN, POOLING),
    ("deeplabv3plus", "resnet18", OWN, POOLING),
    ("deeplabv3plus", "resnet101", OWN, POOLING),
    ("upernet", "resnet101", OWN, POOLING),
    ("upernet", "tu-convnext_atto", OWN, POOLING),
    ("upernet", "tu-convnext_base", OWN, POOLING),
    ("upernet", "tu-swin_tiny_patch4_window7_224", OWN, POOLING),
    ("upernet", "tu-swin_base_patch4_window7_224", OWN, POOLING),
    *(("segformer", f"mit_b{size}", OWN, "") for size in range(6)),
    ("hrnet", "hrnet_w18_small", OWN, ""),
    ("hrnet", "hrnet_w48", OWN, ""),
    ("beit", "beit_tiny", "none", f"{ATTENTION}, {POOLING}"),
    ("beit", "beit_base", "microsoft/beit-base-*", f"{ATTENTION}, {POOLING}"),
    ("beit", "beit_large", "microsoft/beit-large-*", f"{ATTENTION}, {POOLING}"),
)


@dataclass(frozen=True)
class Entry:
    """A network: `model.name`, `model.encoder`, parameters, stride of the logits, values of `model.weights`, limits."""

    name: str
    encoder: str
    parameters: int
    stride: int
    weights: str
    limits: str


def entries(*, progress: Callable[[int, int], object] | None = None) -> list[Entry]:
    """Every listed network, built without memory for its weights, to count them.

    Args:
        progress: called with (networks done, networks in all).
    """
    found = []
    for done, (name, encoder, weights, limits) in enumerate(_LISTED, start=1):
        settings = config.Model.model_validate({"name": name, "encoder": encoder})
        with Weightless():
            network = models.build(settings, CLASSES)
        found.append(Entry(name, encoder, models.parameters(network), network.stride, weights, limits))
        if progress:
            progress(done, len(_LISTED))
    return found


class Weightless(TorchFunctionMode):
    """Within this, new weights have a shape but no memory.

    ``torch.device("meta")`` would take the constants too from which some encoders compute their shapes.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, on the device meta if it makes the tensor of a weight."""
        options = kwargs or {}
        if func is torch.empty:
            options = {**options, "device": options.get("device") or "meta"}
        return func(*args, **options)
