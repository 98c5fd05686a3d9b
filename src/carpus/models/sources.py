"""Where weights are read from: a file, a folder, a run, or the hub."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
from torch import Tensor

from carpus import config
from carpus.errors import ConfigError, DataError
from carpus.models import keys, weights

WRAPPERS = ("model", "module", "net", "network", "_orig_mod")
"""Where Lightning modules, DistributedDataParallel and torch.compile hold a network."""


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


def read(settings: config.Model, origin: Origin) -> dict[str, Tensor]:
    """The tensors of `settings.weights` by the names that they have there, without a wrapper's.

    Raises:
        ConfigError: a source that is unknown or cannot be fetched; names the local option.
        DataError: a local file that cannot be read.
    """
    source = origin.source
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


def files(path: Path) -> list[Path]:
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
        unexpected={
            name for name in info["unexpected_keys"] if not keys.reason_to_leave_out(keys.rename(name), "beit")
        },
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
