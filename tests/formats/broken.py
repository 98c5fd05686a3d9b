"""Valid content made invalid in small random ways, for readers that may answer with `DataError` and nothing else."""

import contextlib
import copy
import warnings
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from carpus.errors import DataError, DataWarning

JUNK: list[Any] = [
    *(None, True, 0, -1, 3, 2**31, 2**63, 10**400, 0.5, 1e300, float("nan"), float("inf")),
    *("", "a", "../x", "\ud800", "x" * 300, "poly", "circle", "mask", "rectangle"),
    *([], [[]], {}, [1, 2], [[1, 2]], [[0, 0], [1, 1], [2, float("inf")]], {"size": [1, 1], "counts": "x"}),
]


@st.composite
def broken(draw: st.DrawFn, valid: Any) -> Any:
    """A copy of JSON content with one to three values replaced by junk, dropped or doubled."""
    content = {"root": copy.deepcopy(valid)}
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(content))
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        action = draw(st.sampled_from(("junk", "junk", "drop", "double")))
        if action == "junk":
            holder[key] = copy.deepcopy(draw(st.sampled_from(JUNK)))
        elif action == "drop" and holder is not content:
            del holder[key]
        elif isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
    return content["root"]


@st.composite
def scrambled(draw: st.DrawFn, valid: bytes) -> bytes:
    """Bytes with a few of them cut out, replaced or repeated."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 8))
        data[at : at + length] = draw(
            st.binary(max_size=6) | st.sampled_from([b"-", b"9" * 25, b"NaN", b",", b'"', b"\n"])
        )
    return bytes(data)


def survives(read: Callable[[], Any]) -> None:
    """Run a reader; anything but a result or a `DataError` is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        with contextlib.suppress(DataError):
            read()


def _places(node: Any):
    if isinstance(node, dict | list):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            yield node, key
            yield from _places(node[key])
