"""Random label maps for the kernel tests."""

import numpy as np
from numpy.typing import NDArray

SIZES = [(1, 1), (1, 40), (37, 1), (13, 17), (31, 64), (47, 53)]


def random_map(random: np.random.Generator, size: tuple[int, int], classes: int) -> NDArray[np.int32]:
    """Overlapping boxes of every class, some absent, some in several parts, with single pixels added and removed."""
    words = np.zeros(size, np.int64)
    for k in range(classes):
        for _ in range(random.integers(0, 3)):
            y, x = random.integers(0, size[0]), random.integers(0, size[1])
            words[y : y + random.integers(1, 20), x : x + random.integers(1, 20)] |= 1 << k
    words[random.random(size) < 0.02] ^= 1 << int(random.integers(0, classes))
    words[-1, -1] = 2**classes - 1
    return words.astype(np.int32)
