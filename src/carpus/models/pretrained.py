"""What a network starts from: weights of an encoder or of a whole network, from the hub or a local place.

Every key of the source is used, or left out for a reason that is listed; every key of the network is filled, or new
for a reason that is listed. Anything else is an error, because a weight that silently did not load looks like a
method that does not work.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor
from torch.nn import functional

from carpus import config
from carpus.errors import ConfigError, DataError
from carpus.models import unet, weights
from carpus.models.additions import down
from carpus.models.network import ADDITIONS, Network
from carpus.models.weightless import Weightless

RENAMED = (
    (r"^segmentation_head\.0\.", "head."),  # segmentation-models-pytorch
    (r"^classifier\.4\.", "head."),  # torchvision
    (r"^classifier\.(\d\.)", r"decoder.\1"),
    (r"^backbone\.", "encoder."),
    (r"^decode_head\.classifier\.", "head."),  # transformers
    (r"^decode_head\.", "decoder."),
    (r"^(beit|fpn)\.", r"encoder.\1."),
)
"""Names that other libraries give to the parts of a whole network."""

WRAPPERS = ("model", "module", "net", "network", "_orig_mod")
"""Where Lightning modules, DistributedDataParallel and torch.compile hold a network."""

_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)$"
_LINEAR = r"(weight|bias)$"

_TORCHVISION = ((rf"^aux_classifier\.[014]\.{_NORM}", "auxiliary head of another library"),)

LEFT_OUT = {
    "fcn": _TORCHVISION,
    "deeplabv3": _TORCHVISION,
    "beit": (
        (rf"^auxiliary_head\.(convs\.\d\.(convolution|normalization)|classifier)\.{_NORM}", _TORCHVISION[0][1]),
        (rf"^classifier\.{_LINEAR}|^encoder\.beit\.(pooler\.)?layernorm\.{_LINEAR}", "image classifier"),
        (rf"^(layernorm|lm_head)\.{_LINEAR}|^encoder\.beit\.embeddings\.mask_token$", "pretraining by masks"),
    ),
    "every network": (
        (rf"^aux\.\d+\.[014]\.{_NORM}", "auxiliary head, for training only"),
        (r"\.(relative_position_index|attn_mask)$", "no weight"),
    ),
}
"""Keys of a source that a network may lack, and why: whole names, because any other key would be a weight lost."""

CLASSIFIER = rf"^(fc|_fc|last_linear|linear|head|head\.fc|classifier(\.\d)?)\.{_LINEAR}"
"""The last layers of torchvision's and smp's image classifiers; those of timm are looked up."""


@dataclass
class Origin:
    """What was loaded: the source, how many tensors, and what was adapted, new or left out, with the reason."""

    source: str
    loaded: int = 0
    notes: dict[str, int] = field(default_factory=dict)

    def note(self, reason: str) -> None:
        """Count one tensor for `reason`."""
        self.notes[reason] = self.notes.get(reason, 0) + 1

    def __str__(self) -> str:
        more = "".join(f"; {count} {reason}" for reason, count in self.notes.items())
        return f"{self.loaded} tensors of {self.source}{more}"


def load(network: Network, settings: config.Model) -> None:
    """Fill `network` from `settings.weights` and write what was done into its `origin`.

    Raises:
        ConfigError: a source that is unknown or cannot be fetched; names the local option.
        DataError: a local file that cannot be read, or keys that are missing, unexpected or of another shape.
    """
    if settings.weights is None:
        return
    source = str(settings.weights)
    origin = Origin(source)
    fitted = _fit(network, _named(_read(source, settings, origin), network, settings, origin), settings, origin)
    network.load_state_dict(fitted, strict=False)
    origin.loaded = len(fitted)
    network.continued = tuple(part for part in ADDITIONS if any(name.startswith(f"{part}.") for name in fitted))
    network.origin = str(origin)


def _read(source: str, settings: config.Model, origin: Origin) -> dict[str, Tensor]:
    path = config.weights_path(source, Path())
    if path is None:
        if "/" in source:
            return _of_transformers(source) if settings.name == "beit" else _fetch(source, None)
        return _fetch(*repository(source, settings))
    if path.is_dir():
        if not any(path.glob("*.safetensors")) and (path / "pytorch_model.bin").is_file():
            return weights.read(path / "pytorch_model.bin")  # refused, with how to convert it
        if settings.name == "beit":
            return _of_transformers(str(path))
        if not (path / "model.safetensors").is_file():
            raise DataError(
                f"{path}: holds no weights; expected model.safetensors, as save_pretrained leaves it, or a run folder"
            )
        return _unwrapped(weights.read(path / "model.safetensors"), origin)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder (model.weights); a hub repository is written owner/name")
    state = _unwrapped(weights.read(path), origin)
    return _of_transformers(str(path), state) if _is_transformers_beit(state) else state


def _unwrapped(state: dict[str, Tensor], origin: Origin) -> dict[str, Tensor]:
    """`state` by the names of the network itself, where all of it stands below one of `WRAPPERS`."""
    for wrapper in (f"{first}." for first in WRAPPERS):
        if state and all(name.startswith(wrapper) for name in state):
            for _ in state:
                origin.note(f"renamed (without {wrapper})")
            return _unwrapped({name.removeprefix(wrapper): tensor for name, tensor in state.items()}, origin)
    return state


def weights_files(path: Path) -> list[Path]:
    """The files that hold the tensors of a local source of weights, sorted: one, or the parts of a large network."""
    if not path.is_dir():
        return [path]
    whole = path / "model.safetensors"
    return [whole] if whole.is_file() else sorted(path.glob("*.safetensors"))


def repository(source: str, settings: config.Model) -> tuple[str, str | None]:
    """Repository and revision of a library's own weights for an encoder; raises `ConfigError` if it has none."""
    encoder = f"tu-{settings.encoder}" if settings.name == "hrnet" else settings.encoder
    known = smp.encoders.encoders.get(encoder, {}).get("pretrained_settings", {})
    if source in known:
        return known[source]["repo_id"], known[source]["revision"]
    if encoder.startswith("tu-"):
        cfg = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
        if source == "imagenet" and cfg and cfg.hf_hub_id:
            return str(cfg.hf_hub_id), None
        known = {"imagenet": None} if cfg and cfg.hf_hub_id else {}
    raise ConfigError(
        f"model.weights: {source} is neither a file nor a folder, and {settings.encoder} has "
        f"{', '.join(known) or 'no weights of that kind'}; a hub repository is written owner/name"
    )


def _fetch(repository: str, revision: str | None) -> dict[str, Tensor]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        found = hf_hub_download(repository, "model.safetensors", revision=revision, local_files_only=not _online())
    except (OSError, HfHubHTTPError) as error:
        raise _offline(repository, error) from error
    return weights.read(Path(found))


def _online() -> bool:
    """Whether the hub answers; without a network its client would try for 23 seconds."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception:  # of whichever library the client is built on
        return False
    return True


def _of_transformers(source: str, state: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """A BEiT by the library that knows its older names; what the source lacked is left out again.

    Args:
        source: a folder or hub repository.
        state: the tensors of a file instead, which has no settings beside it: they follow from the shapes.
    """
    from huggingface_hub.errors import HfHubHTTPError
    from transformers import BeitConfig, BeitForSemanticSegmentation
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    local = state is not None or Path(source).is_dir() or not _online()
    try:
        options = BeitConfig.from_pretrained(source, local_files_only=local) if state is None else _beit_options(state)
        options.use_relative_position_bias = True
        options.set_output_features_output_indices(out_indices=[1, 2, 3, 4], out_features=None)
        loaded: Any = BeitForSemanticSegmentation.from_pretrained(
            source if state is None else None,
            config=options,
            state_dict=state,
            use_safetensors=True,
            local_files_only=local,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (OSError, HfHubHTTPError, ValueError) as error:
        raise _offline(source, error) from error
    finally:
        logging.set_verbosity(before)
    made, info = loaded
    weights.refuse(
        source,
        missing=set(),
        unexpected={name for name in info["unexpected_keys"] if not _reason_to_leave_out(_rename(name), "beit")},
        reshaped={name: (tuple(came), tuple(wanted)) for name, came, wanted in info["mismatched_keys"]},
    )
    found = {name: tensor for name, tensor in made.state_dict().items() if name not in info["missing_keys"]}
    shared = found.pop("beit.shared_position_bias.relative_position_bias_table", None)
    if shared is not None:
        # Pretraining shares one table among the blocks; each begins from it.
        found |= {
            f"beit.layers.{number}.relative_position_bias.relative_position_bias_table": shared
            for number in range(options.num_hidden_layers)
        }
    return found


_BEIT_PATCHES = "beit.embeddings.patch_embeddings.projection.weight"


def _is_transformers_beit(state: Mapping[str, Tensor]) -> bool:
    return _BEIT_PATCHES in state and state[_BEIT_PATCHES].ndim == 4


def _beit_options(state: Mapping[str, Tensor]) -> Any:
    """transformers' settings of a BEiT from its tensors."""
    from transformers import BeitConfig

    width, channels, patch, _ = state[_BEIT_PATCHES].shape
    blocks = {found[1] for name in state if (found := re.search(r"\.layers?\.(\d+)\.", name))}
    tables = {name: tensor for name, tensor in state.items() if name.endswith("relative_position_bias_table")}
    table = next(iter(tables.values()), None)
    heads = table.shape[1] if table is not None and table.ndim == 2 else width // 64
    side = round((len(table) - 3) ** 0.5) // 2 + 1 if table is not None and table.ndim == 2 else 14
    classifier = state.get("decode_head.classifier.bias")
    return BeitConfig(
        hidden_size=width,
        num_hidden_layers=len(blocks),
        num_attention_heads=heads,
        intermediate_size=4 * width,
        image_size=side * patch,
        patch_size=patch,
        num_channels=channels,
        num_labels=classifier.numel() if classifier is not None else 2,  # pyright: ignore[reportCallIssue]
        use_absolute_position_embeddings="beit.embeddings.position_embeddings" in state,
        use_mask_token="beit.embeddings.mask_token" in state,
        use_shared_relative_position_bias=any(not re.search(r"\.layers?\.\d+\.", name) for name in tables),
        layer_scale_init_value=0.1 if any(name.endswith(".lambda_1") for name in state) else 0,
    )


def _offline(source: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"model.weights: {source} could not be fetched ({error.__class__.__name__}); without a network, give the path "
        "of a local .safetensors file, or of a folder with model.safetensors"
    )


def _named(state: Mapping[str, Tensor], network: Network, settings: config.Model, origin: Origin) -> dict[str, Tensor]:
    """`state` by the names of a `Network`: of a whole network, or of an encoder alone, without its classifier."""
    renamed = {_rename(name): tensor for name, tensor in state.items()}
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
            if name in classifier if classifier else re.search(CLASSIFIER, name):
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


def _rename(name: str) -> str:
    for pattern, replacement in RENAMED:
        if re.search(pattern, name):
            return re.sub(pattern, replacement, name)
    return name


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
                _reason_to_leave_out(name, settings.name)
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


def _reason_to_leave_out(name: str, network: str) -> str | None:
    known = (*LEFT_OUT.get(network, ()), *LEFT_OUT["every network"])
    return next((reason for pattern, reason in known if re.search(pattern, name)), None)


def _reason_of_norm(name: str, expected: Mapping[str, Tensor], settings: config.Model) -> str | None:
    stem, _, last = name.rpartition(".")
    if f"{stem}.weight" not in expected or last not in ("running_mean", "running_var", "num_batches_tracked"):
        return None
    return "statistics of BatchNorm, which GroupNorm has none of" if settings.norm == "group" else None


def _reason_of_stride(name: str, settings: config.Model) -> str | None:
    """Blocks of a U-Net's decoder that `model.stride` does without."""
    found = re.search(rf"^decoder\.blocks\.(\d)\.conv[12]\.(0\.weight|1\.{_NORM})", name)
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
