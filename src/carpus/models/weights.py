"""Weights from and to local files: safetensors only, because a pickle runs code when it is read."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from carpus.errors import DataError
from carpus.formats import files


def save(network: nn.Module, path: Path) -> None:
    """Write all parameters and buffers of `network` to `path`, whole or not at all."""
    with files.atomic(path) as temporary:
        temporary.write_bytes(to_bytes({name: tensor.contiguous() for name, tensor in network.state_dict().items()}))


def load_encoder(encoder: nn.Module, path: Path) -> None:
    """Load weights of an image classifier into the encoder of the same architecture.

    Its last layer (``fc.*``) is left out, and a first convolution of three colour channels is summed over them: on an
    image of three equal channels the grey one gives the same.

    Raises:
        DataError: see `load`.
    """
    expected = encoder.state_dict()
    state = {name: tensor for name, tensor in read(path).items() if not name.startswith("fc.")}
    for name, tensor in state.items():
        shape = expected[name].shape if name in expected else ()
        if len(shape) == 4 and shape[1] == 1 and tensor.shape == (shape[0], 3, *shape[2:]):
            state[name] = tensor.sum(dim=1, keepdim=True)
    _fill(encoder, state, path)


def load(network: nn.Module, path: Path) -> None:
    """Load `path` into `network`, every key with its shape.

    Raises:
        DataError: not a safetensors file, or a key that is missing, unexpected or of another shape.
    """
    _fill(network, read(path), path)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name; raises `DataError` if it is none."""
    if path.suffix != ".safetensors":
        raise DataError(f"{path}: only .safetensors is read; a pickled checkpoint could run code of its own")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: not readable as safetensors ({error})") from error


def _fill(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    expected = network.state_dict()
    wrong = (
        [f"missing {name}" for name in sorted(expected.keys() - state.keys())]
        + [f"unexpected {name}" for name in sorted(state.keys() - expected.keys())]
        + [
            f"{name} has shape {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}"
            for name in sorted(expected.keys() & state.keys())
            if state[name].shape != expected[name].shape
        ]
    )
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise DataError(f"{path}: does not fit this network: {'; '.join(wrong[:3])}{more}")
    network.load_state_dict(state)
