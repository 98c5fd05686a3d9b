"""What a network starts from: weights of an encoder or of a whole network, from the hub or a local place.

Every key of the source is used, or left out for a reason that is listed; every key of the network is filled, or new
for a reason that is listed. Anything else is an error, because a weight that silently did not load looks like a
method that does not work.
"""

import re
from collections.abc import Collection, Mapping

import timm
import torch
from torch import Tensor
from torch.nn import functional

from carpus import config
from carpus.models import keys, sources, unet, weights
from carpus.models.additions import down
from carpus.models.network import ADDITIONS, Network
from carpus.models.sources import Origin
from carpus.models.weightless import Weightless


def load(network: Network, settings: config.Model) -> None:
    """Fill `network` from `settings.weights` and write what was done into its `origin`.

    Raises:
        ConfigError: a source that is unknown or cannot be fetched; names the local option.
        DataError: a local file that cannot be read, or keys that are missing, unexpected or of another shape.
    """
    if settings.weights is None:
        return
    origin = Origin(str(settings.weights))
    fitted = _fit(network, _named(sources.read(settings, origin), network, settings, origin), settings, origin)
    network.load_state_dict(fitted, strict=False)
    origin.loaded = len(fitted)
    network.continued = tuple(part for part in ADDITIONS if any(name.startswith(f"{part}.") for name in fitted))
    network.origin = str(origin)


def _named(state: Mapping[str, Tensor], network: Network, settings: config.Model, origin: Origin) -> dict[str, Tensor]:
    """`state` by the names of a `Network`: of a whole network, or of an encoder alone, without its classifier."""
    renamed = {keys.rename(name): tensor for name, tensor in state.items()}
    if any(name.startswith(("encoder.", "decoder.")) for name in renamed):
        return renamed
    expected = network.state_dict().keys()
    named, classifier = {}, None
    for name, tensor in state.items():
        # timm's encoders stand below `model`, and their rows of stages are taken apart: stages.0 is stages_0.
        apart = re.sub(r"^([a-z]+)\.(\d+)\.", r"\1_\2.", name)
        candidates = (f"encoder.{name}", f"encoder.model.{name}", f"encoder.model.{apart}")
        own = next((candidate for candidate in candidates if candidate in expected), None)
        if own is None:
            classifier = _classifier(settings) if classifier is None else classifier
            if name in classifier if classifier else re.search(keys.CLASSIFIER, name):
                origin.note("left out (image classifier)")
                continue
        named[own or f"encoder.{name}"] = tensor
    return named


def _classifier(settings: config.Model) -> Collection[str]:
    """All keys of timm's image classifier of this encoder, the encoder's own among them; none if timm has none."""
    name = settings.encoder if settings.name == "hrnet" else settings.encoder.removeprefix("tu-")
    if settings.name != "hrnet" and name == settings.encoder:
        return ()
    with Weightless():
        return timm.create_model(name, pretrained=False).state_dict().keys()


def _fit(network: Network, state: Mapping[str, Tensor], settings: config.Model, origin: Origin) -> dict[str, Tensor]:
    expected = network.state_dict()
    whole = any(name.startswith(("decoder.", "head.")) for name in state)
    first = network.widened or {f"encoder.{name}.weight" for name in down.first_projections(network.encoder)}
    fitted: dict[str, Tensor] = {}
    unexpected: set[str] = set()
    reshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for name, tensor in state.items():
        if name not in expected:
            reason = (
                keys.reason_to_leave_out(name, settings.name)
                or _reason_of_norm(name, expected, settings)
                or _reason_of_stride(name, settings)
            )
            if reason is None:
                unexpected.add(name)
            else:
                origin.note(f"left out ({reason})")
            continue
        wanted = expected[name]
        if tensor.shape != wanted.shape and name in first:
            tensor = _first_projection(tensor, wanted, settings, origin)
        elif tensor.shape != wanted.shape and name.endswith("relative_position_bias_table"):
            tensor = _table(tensor, wanted, origin)
        if tensor.shape == wanted.shape:
            fitted[name] = tensor
        else:
            reshaped[name] = tuple(tensor.shape), tuple(wanted.shape)
    for name in _of_other_classes(reshaped):
        del reshaped[name]
        origin.note(f"new (other classes: {len(state['head.bias'])} there, {len(expected['head.bias'])} here)")
    if kind := _other_head(reshaped, state, settings):
        for name in HEAD:
            reshaped.pop(name, None)
            fitted.pop(name, None)
            origin.note(f"new ({kind})")
    missing = set()
    for name in expected.keys() - state.keys():
        reason = _reason_to_be_new(name, state, whole)
        if reason is None:
            missing.add(name)
        elif not name.endswith("num_batches_tracked"):
            origin.note(f"new ({reason})")
    weights.refuse(origin.source, missing=missing, unexpected=unexpected, reshaped=reshaped)
    return fitted


HEAD = ("head.weight", "head.bias")


ROWS_OF_CLASSES = r"^(head|aux\.\d\.4)\.(weight|bias)$|^calibration\.(scale|bias)$"
"""Tensors with one row for every class: another class list begins them anew, and nothing else."""


def _of_other_classes(reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> list[str]:
    """Tensors of a class each row that differ in the number of classes and in nothing else, if all of the head does."""
    if any(len(reshaped.get(name, ((), ()))[0]) == 0 for name in HEAD):
        return []
    there, here = (shape[0] for shape in reshaped["head.bias"])
    found = [
        name
        for name, (came, wanted) in reshaped.items()
        if re.search(ROWS_OF_CLASSES, name) and came == (there, *wanted[1:]) and wanted[0] == here
    ]
    return found if set(HEAD) <= set(found) else []


def _reason_of_norm(name: str, expected: Mapping[str, Tensor], settings: config.Model) -> str | None:
    stem, _, last = name.rpartition(".")
    if f"{stem}.weight" not in expected or last not in ("running_mean", "running_var", "num_batches_tracked"):
        return None
    return "statistics of BatchNorm, which GroupNorm has none of" if settings.norm == "group" else None


def _reason_of_stride(name: str, settings: config.Model) -> str | None:
    """Blocks of a U-Net's decoder that `model.stride` does without."""
    found = re.search(rf"^decoder\.blocks\.(\d)\.conv[12]\.(0\.weight|1\.{keys.NORM})", name)
    finer = settings.name == "unet" and found and int(found[1]) in range(*unet.left_out(settings))
    return "block of the decoder finer than model.stride" if finer else None


def _other_head(
    reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]], state: Mapping[str, Tensor], settings: config.Model
) -> str | None:
    """Why a whole head begins anew: it has another kernel, or sees a block that `model.stride` does without."""
    came, wanted = reshaped.get("head.weight", ((), ()))
    if len(came) != 4 or "head.bias" not in state or tuple(state["head.bias"].shape) != came[:1] or not came[0]:
        return None
    if came[1] != wanted[1] and any(_reason_of_stride(name, settings) for name in state):
        return "head of a finer stride there"
    if came[1] == wanted[1] and came[2:] != wanted[2:]:
        return f"head of {came[2]} x {came[3]} pixels there, {wanted[2]} x {wanted[3]} here"
    return None


def _reason_to_be_new(name: str, state: Mapping[str, Tensor], whole: bool) -> str | None:
    part = name.split(".", 1)[0]
    if name.endswith("num_batches_tracked"):
        return "a counter"
    if part in ADDITIONS:
        addition = name[: len("aux.4")] if part == "aux" else part  # every auxiliary head is one of its own
        if not any(other.startswith(f"{addition}.") for other in state):
            return f"{addition} is an addition"
    if not whole and part in ("decoder", "head"):
        return "weights of an encoder only"
    if name.startswith("encoder.fpn.") and not any(other.startswith("encoder.fpn.") for other in state):
        return "weights of an encoder only"
    return None


def _first_projection(tensor: Tensor, wanted: Tensor, settings: config.Model, origin: Origin) -> Tensor:
    """Grey from colour by summing, because three equal channels give the same; then the widened one."""
    if tensor.ndim != 4 or (tensor.shape[0], *tensor.shape[2:]) != (wanted.shape[0], *wanted.shape[2:]):
        return tensor
    if tensor.shape[1] == 3:
        tensor = tensor.sum(dim=1, keepdim=True)
        origin.note("summed over colour")
    if tensor.shape[1] == 1 and wanted.shape[1] == down.CHANNELS:
        if settings.down is not None and settings.down.init == "random":
            origin.note("lost (first projection begins anew: model.down.init is random)")
            return wanted
        origin.note("widened (new channels begin at zero)")
        tensor = torch.cat([tensor, tensor.new_zeros(len(tensor), down.CHANNELS - 1, *tensor.shape[2:])], dim=1)
    return tensor


def _table(tensor: Tensor, wanted: Tensor, origin: Origin) -> Tensor:
    """BEiT's relative positions for another image size: ((2 n - 1)**2 + 3, heads), the last 3 of the class token."""
    if tensor.ndim != 2 or wanted.ndim != 2 or tensor.shape[1] != wanted.shape[1]:
        return tensor
    old, new = round((len(tensor) - 3) ** 0.5), round((len(wanted) - 3) ** 0.5)
    if old**2 + 3 != len(tensor) or new**2 + 3 != len(wanted):
        return tensor
    square = tensor[:-3].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    scaled = functional.interpolate(square.float(), size=(new, new), mode="bilinear")
    origin.note("interpolated (relative positions of another image size)")
    return torch.cat([scaled.permute(0, 2, 3, 1).reshape(new**2, -1).to(tensor.dtype), tensor[-3:]])
