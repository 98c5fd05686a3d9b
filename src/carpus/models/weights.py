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
    "save_file(torch.load('{name}', weights_only=True), '{stem}.safetensors')\""
)


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
        command = CONVERT.replace("{name}", path.name).replace("{stem}", path.stem)
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
    """Raise a `DataError` that lists the first keys that do not fit, if there is any.

    Args:
        source: what was read.
        missing: keys of the network that are not in it.
        unexpected: its keys that the network does not have.
        reshaped: key -> (its shape, the network's shape).
    """
    wrong = (
        [f"missing {name}" for name in sorted(missing)]
        + [f"unexpected {name}" for name in sorted(unexpected)]
        + [f"{name} has shape {came}, expected {expected}" for name, (came, expected) in sorted(reshaped.items())]
    )
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise DataError(f"{source}: does not fit this network: {'; '.join(wrong[:3])}{more}")
