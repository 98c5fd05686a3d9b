"""Hard voting on run lengths: of networks within `carpus predict`, and of submissions for teams that have only CSVs.

Dimension key: M members, K classes, R runs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carpus.errors import ConfigError, DataError, warn
from carpus.formats import convert, files, submission
from carpus.kernels import Runs
from carpus.labels import BONES, Classes

Weight = float | Mapping[str, float]
"""What a member counts: alike for all classes, or by class name; a class that is not named counts 1."""


class FromFile(dict[str, float]):
    """A `Weight` by class name that a file gave.

    Args:
        content: weights by class name.
        source: the file, which an error shall name.
    """

    def __init__(self, content: Mapping[str, float] | Iterable[tuple[str, float]], source: str = "") -> None:
        super().__init__(content)
        self.source = source


MAJORITY = 0.5
"""A pixel belongs to a class if more than this share of the votes says so: of two votes, both; of four, three."""


def vote(masks: Sequence[Runs], weights: Sequence[float], share: float = MAJORITY) -> Runs:
    """The runs where more than a share of the votes has the mask; no mask is decoded.

    Args:
        masks: M runs of one class of one image, see `kernels.Runs`.
        weights: M votes, 0 or more, not all 0.
        share: of all votes, from 0 (the union) to below 1. A pixel that has exactly this share is left out.

    Returns:
        (R, 2), (0, 2) where no pixel has the votes.

    Example:
        >>> vote([np.array([[0, 4]]), np.array([[2, 4]]), np.array([[3, 1]])], [1, 1, 1]).tolist()
        [[2, 2]]
    """
    edges = np.concatenate([part for runs in masks for part in (runs[:, 0], runs.sum(axis=1))])
    change = np.concatenate(
        [sign * np.full(len(runs), weight) for runs, weight in zip(masks, weights, strict=True) for sign in (1.0, -1.0)]
    )
    if not len(edges):
        return np.empty((0, 2), np.int64)
    places, which = np.unique(edges, return_inverse=True)
    total = float(np.sum(weights))
    # Sums of votes such as 0.1 + 0.2 miss a tie by rounding.
    held = np.cumsum(np.bincount(which, change)) > share * total + 1e-9 * total
    flips = np.flatnonzero(np.diff(held, prepend=False))
    runs = places[flips].reshape(-1, 2).astype(np.int64)
    runs[:, 1] -= runs[:, 0]
    return runs


def votes(weights: NDArray[np.float64] | Sequence[Weight], members: int, classes: Classes) -> NDArray[np.float64]:
    """Weights as (M, K): all 1 if none are given, else one `Weight` a member, or an array of that shape.

    Raises:
        ConfigError: another number of them, negative ones, an unknown class, or a class that nobody votes on.
    """
    if not len(weights):
        return np.ones((members, len(classes)))
    if not isinstance(weights, np.ndarray):
        for n, each in enumerate(weights, start=1):
            for name in each if isinstance(each, Mapping) else ():
                try:
                    classes.index(name)
                except DataError as error:
                    source = each.source if isinstance(each, FromFile) else f"number {n}"
                    raise ConfigError(f"weights: {source}: {error}") from None
        weights = np.array(
            [[each.get(name, 1.0) if isinstance(each, Mapping) else each for name in classes] for each in weights],
            np.float64,
        )
    given = weights
    if given.shape != (members, len(classes)):
        raise ConfigError(f"weights: expected {members}, one a member, has {len(given)}")
    if not np.isfinite(given).all() or (given < 0).any() or (given.sum(axis=0) == 0).any():
        raise ConfigError("weights: expected 0 or more, and for every class one above 0")
    return given


def require_different(
    paths: Sequence[Path | str], hashes: Sequence[str], told: str = "to count one more than others, give --weight"
) -> None:
    """Raise `ConfigError`, which ends in `told`, if a member is there twice, by the SHA-256 of each."""
    for n, content in enumerate(hashes):
        if (first := hashes.index(content)) < n:
            raise ConfigError(f"{paths[n]}: is {paths[first]} once more; {told}")


def doubt_even(members: int) -> None:
    """Warn where members that count alike are even in number, so that half of them is no majority."""
    if members % 2 == 0:
        needed = "both" if members == 2 else str(members // 2 + 1)
        warn(f"votes: of {members} voters {needed} must agree on a pixel; an odd number, or weights, has no ties")


def ensemble(
    sources: Sequence[Path | str],
    target: Path | str,
    *,
    size: tuple[int, int],
    weights: NDArray[np.float64] | Sequence[Weight] = (),
    share: float = MAJORITY,
    classes: Classes = BONES,
    progress: Callable[[int, int], object] | None = None,
) -> int:
    """Let submissions vote, pixel by pixel and class by class, and write the outcome as a submission.

    Args:
        sources: two or more submission CSVs of the same images.
        target: the CSV to write, whole or not at all.
        size: (H, W) of every image in pixels.
        weights: see `votes`.
        share: see `vote`.
        classes: the class list of all.
        progress: called with (images done, images in all).

    Returns:
        The number of images.

    Raises:
        DataError: a CSV that cannot be read, or that has other images than the first; a target that is there and is
            no submission.
        ConfigError: fewer than two, one of them twice, weights that do not fit, or a share out of 0..1.
    """
    if len(sources) < 2:
        raise ConfigError(f"ensemble: expected two or more submissions, got {len(sources)}")
    if not 0 <= share < 1:
        raise ConfigError(f"share: expected 0 up to below 1, got {share}")
    convert.ready(target, classes, target_format="submission")
    worth = votes(weights, len(sources), classes)
    first = submission.read(sources[0], classes, size)
    members = [first, *(submission.read(path, classes, size, expected=first) for path in sources[1:])]
    require_different(sources, [files.sha256(path) for path in sources])
    if not len(weights) and share == MAJORITY:
        doubt_even(len(sources))

    def outcome() -> Iterator[tuple[str, list[Runs]]]:
        for done, name in enumerate(first, start=1):
            yield (
                name,
                [
                    vote([member[name][k] for member in members], worth[:, k].tolist(), share)
                    for k in range(len(classes))
                ],
            )
            if progress:
                progress(done, len(first))

    return submission.write(target, outcome(), classes)
