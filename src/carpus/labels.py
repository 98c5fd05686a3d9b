"""The label map: K overlapping masks in one int32 per pixel, bit k = class k.

29 masks of 2048 x 2048 are 116 MiB as bool; as a label map they are 16 MiB, mostly zeros. Readers make
it, augmentation warps it, the loss and the score read it, the predictor writes it.

Dimension key: K classes (at most 31), H rows, W columns.

A label map must never pass through float32 (2**28 + 1 becomes 2**28). OpenCV is exact on `channels(labels)`,
the same memory as four uint8 channels.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carpus.errors import DataError

MAX_CLASSES = 31
"""Bit 31 is the sign of an int32 and stays zero, so that a label map is never negative."""

LabelMap = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Classes:
    """The names of the classes in channel order: class k is bit k of a label map.

    Args:
        names: 1 to 31 different, non-empty names.
        groups: named subsets, for reports (the bones: fingers, carpals, forearm).

    Raises:
        DataError: no class, more than 31, one twice, or a group with an unknown name.
    """

    names: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise DataError(f"class list: needs 1 to {MAX_CLASSES} classes, has {len(self.names)}")
        if any(not isinstance(name, str) or not name.strip() for name in self.names):
            raise DataError("class list: every class needs a name")
        padded = [name for name in self.names if name != name.strip()]
        if padded:
            raise DataError(f"class list: {padded[0]!r} starts or ends with a blank, which files of labels would lose")
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise DataError(f"class list: named twice: {', '.join(twice)}")
        for group, members in self.groups.items():
            if any(not isinstance(member, str) for member in members):
                raise DataError(f"class list: groups.{group}: expected names of classes")
            unknown = sorted(set(members) - set(self.names))
            if unknown:
                raise DataError(f"class list: groups.{group}: unknown class {', '.join(unknown)}")

    @classmethod
    def read(cls, path: Path | str) -> "Classes":
        """Read a class list from JSON: either ``["a", "b"]`` or ``{"classes": [...], "groups": {...}}``."""
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: not a readable JSON class list ({error})") from error
        if isinstance(content, list):
            content = {"classes": content}
        if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
            raise DataError(f'{path}: classes: expected a list of names, as in ["Radius", "Ulna"]')
        groups = content.get("groups", {})
        if not isinstance(groups, dict) or not all(isinstance(members, list) for members in groups.values()):
            raise DataError(f"{path}: groups: expected lists of class names by group")
        try:
            return cls(tuple(content["classes"]), {group: tuple(members) for group, members in groups.items()})
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.names)}

    def index(self, name: str) -> int:
        """The bit of class `name`; raises `DataError` naming near misses."""
        try:
            return self._index[name]
        except KeyError:
            near = [known for known in self.names if known.casefold() == name.strip().casefold()]
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(self.names)}"
            raise DataError(f"unknown class {name!r}{hint}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)


BONES = Classes.read(Path(__file__).with_name("bones.json"))
"""The 29 bones of the hand, the default class list."""


def class_list(path: Path | str | None) -> Classes:
    """The class list of a file, see `Classes.read`, or the 29 bones for None."""
    return BONES if path is None else Classes.read(path)


def empty(size: tuple[int, int]) -> LabelMap:
    """A label map of `size` (H, W) in which no class is anywhere."""
    return np.zeros(size, np.int32)


def validate(labels: LabelMap, classes: int, source: str = "label map") -> LabelMap:
    """Return `labels` if it is an int32 (H, W) map whose bits above `classes` are zero, else raise `DataError`.

    For file and model boundaries, not for loops.
    """
    if not isinstance(labels, np.ndarray) or labels.dtype != np.int32 or labels.ndim != 2:
        told = f"{labels.dtype} of {labels.ndim}" if isinstance(labels, np.ndarray) else type(labels).__name__
        raise DataError(f"{source}: expected int32 of 2 dimensions, has {told}")
    if not 1 <= classes <= MAX_CLASSES:
        raise DataError(f"{source}: expected 1 to {MAX_CLASSES} classes, got {classes}")
    if labels.size and (labels.min() < 0 or int(labels.max()) >> classes):
        raise DataError(f"{source}: a bit beyond class {classes - 1} is set; is the class list the right one?")
    return labels


def pack(planes: Mask) -> LabelMap:
    """(K, H, W) masks to a label map. For tests and for data that comes as planes."""
    if planes.ndim != 3 or not 1 <= len(planes) <= MAX_CLASSES:
        raise DataError(f"planes: expected (K, H, W) with K from 1 to {MAX_CLASSES}, has shape {planes.shape}")
    labels = empty((planes.shape[1], planes.shape[2]))
    for k, plane in enumerate(planes):
        paint(labels, k, plane.astype(bool))
    return labels


def unpack(labels: LabelMap, classes: int) -> Mask:
    """A label map to (K, H, W) masks. For tests and small maps: this is the stack the label map avoids."""
    return np.stack([has(labels, k) for k in range(classes)])


def has(labels: LabelMap, k: int) -> Mask:
    """The mask of class `k`: (H, W) bool, or the shape of `labels` whatever it is."""
    return (labels & np.int32(1 << k)) != 0


def paint(labels: LabelMap, k: int, mask: Mask, top: int = 0, left: int = 0) -> None:
    """Add class `k` where `mask` (h, w) bool, laid at (`top`, `left`) and inside the map, is true. In place."""
    window = labels[top : top + mask.shape[0], left : left + mask.shape[1]]
    window |= mask.astype(np.int32) << np.int32(k)


def erase(labels: LabelMap, k: int) -> None:
    """Remove class `k` everywhere. In place."""
    labels &= ~np.int32(1 << k)


def area(labels: LabelMap, classes: int) -> NDArray[np.int64]:
    """Pixels of every class: (K,) int64; 0 for an absent class."""
    words = labels[labels != 0]
    return np.array([np.count_nonzero(has(words, k)) for k in range(classes)], np.int64)


def combinations(a: LabelMap, b: LabelMap) -> tuple[LabelMap, LabelMap, NDArray[np.int64]]:
    """The distinct pairs of words at one place in two maps of one size, and how many pixels have each.

    A few hundred pairs say all that two maps have in common, class by class (`has` works on them); pixels that are
    empty in both are left out.
    """
    there = (a | b) != 0
    pairs = (a[there].astype(np.int64) << 32) | b[there]
    found, counts = np.unique(pairs, return_counts=True)
    return (found >> 32).astype(np.int32), (found & 0xFFFFFFFF).astype(np.int32), counts


def depth(labels: LabelMap) -> NDArray[np.uint8]:
    """How many classes every pixel belongs to: (H, W) uint8."""
    return np.bitwise_count(labels)


def union(first: LabelMap, *others: LabelMap) -> LabelMap:
    """Every class wherever any of the maps, all of one size, has it."""
    result = first.copy()
    for labels in others:
        result |= labels
    return result


def differing(a: LabelMap, b: LabelMap) -> LabelMap:
    """Every class where only one of two maps of one size has it."""
    return a ^ b


def edges(labels: LabelMap) -> LabelMap:
    """Every class in the pixels on both sides of its border, where it begins or ends along a row or a column."""
    result = np.zeros_like(labels)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        changed = labels[here] ^ labels[there]
        result[here] |= changed
        result[there] |= changed
    return result


def remap(labels: LabelMap, target: Sequence[int | None]) -> LabelMap:
    """Move class k to class ``target[k]``; None drops it, and two classes with one target are united."""
    result = np.zeros_like(labels)
    for k, new in enumerate(target):
        if new is not None:
            result |= has(labels, k).astype(np.int32) << np.int32(new)
    return result


def boxes(labels: LabelMap, classes: int) -> list[tuple[slice, slice] | None]:
    """The bounding box of every class as (rows, columns) slices; None for an absent class."""
    found: list[tuple[slice, slice] | None] = []
    # One OR along each axis holds every class at once, so the map is read twice and not 2 K times.
    by_row, by_column = np.bitwise_or.reduce(labels, axis=1), np.bitwise_or.reduce(labels, axis=0)
    for k in range(classes):
        rows, columns = np.flatnonzero(has(by_row, k)), np.flatnonzero(has(by_column, k))
        found.append((slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else None)
    return found


def channels(labels: LabelMap) -> NDArray[np.uint8]:
    """The same memory as (H, W, 4) uint8: what OpenCV can warp without rounding (nearest neighbour only)."""
    return np.ascontiguousarray(labels).view(np.uint8).reshape(*labels.shape, 4)


def from_channels(pixels: NDArray[np.uint8]) -> LabelMap:
    """The inverse of `channels`: (H, W, 4) uint8 to (H, W) int32."""
    return np.ascontiguousarray(pixels).view(np.int32).reshape(pixels.shape[:2])
