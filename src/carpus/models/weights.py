"""Weights from and to local files: safetensors only, because a pickle runs code when it is read."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from carpus.errors import DataError
from carpus.formats import files

CONVERT = (
    'python -c "import torch; from safetensors.torch import save_file; '
    "state = torch.load('{name}', map_location='cpu', weights_only=True); "
    "state = state.get('state_dict', state.get('model', state)); "
    "save_file({k: v.contiguous().clone() for k, v in state.items()}, '{stem}.safetensors')\""
)
"""Lightning and OpenMMLab keep the state dict beside the optimizer's; safetensors refuses tensors that share memory."""

SHOWN = 20
"""Keys of a kind that an error lists."""


def save(network: nn.Module, path: Path) -> None:
    """Write all parameters and buffers of `network` to `path`, whole or not at all."""
    with files.atomic(path) as temporary:
        temporary.write_bytes(to_bytes({name: tensor.contiguous() for name, tensor in network.state_dict().items()}))


def load(network: nn.Module, path: Path) -> None:
    """Load `path` into `network`, every key with its shape.

    Raises:
        DataError: not a safetensors file, or a key that is missing, unexpected or of another shape.
    """
    state, expected = read(path), network.state_dict()
    refuse(
        path,
        missing=expected.keys() - state.keys(),
        unexpected=state.keys() - expected.keys(),
        reshaped={
            name: (tuple(state[name].shape), tuple(expected[name].shape))
            for name in expected.keys() & state.keys()
            if state[name].shape != expected[name].shape
        },
    )
    network.load_state_dict(state)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name; raises `DataError` if it is none."""
    if path.suffix != ".safetensors":
        command = CONVERT.replace("{name}", path.as_posix()).replace("{stem}", path.with_suffix("").as_posix())
        raise DataError(
            f"{path}: only .safetensors is read; a pickled checkpoint could run code of its own. A state dict from a "
            f"source you trust becomes one by: {command}"
        )
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: not readable as safetensors ({error})") from error


def refuse(
    source: Path | str,
    *,
    missing: set[str],
    unexpected: set[str],
    reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
) -> None:
    """Raise a `DataError` that counts the keys that do not fit, and lists up to `SHOWN` of each kind, if there is any.

    Args:
        source: what was read.
        missing: keys of the network that are not in it.
        unexpected: its keys that the network does not have.
        reshaped: key -> (its shape, the network's shape).
    """
    groups = {
        "missing": sorted(missing),
        "unexpected": sorted(unexpected),
        "reshaped": [
            f"{name} has shape {came}, expected {wanted}" for name, (came, wanted) in sorted(reshaped.items())
        ],
    }
    found = {kind: keys for kind, keys in groups.items() if keys}
    if found:
        counts = ", ".join(f"{len(keys)} {kind}" for kind, keys in found.items())
        lines = [f"\n  {kind} {', '.join(keys[:SHOWN])}{_more(keys)}" for kind, keys in found.items()]
        raise DataError(f"{source}: does not fit this network: {counts}{''.join(lines)}")


def _more(keys: list[str]) -> str:
    return f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
