"""A synthetic hand at full size, and what a trained model would say about it."""

from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from carpus import labels as label_map
from carpus import phantom

SIZE, STRIDE, CLASSES = 2048, 4, 29


@lru_cache
def hand(seed: int = 0) -> phantom.Hand:
    return phantom.hand(np.random.default_rng(seed), SIZE)


@lru_cache
def logits(seed: int = 0) -> Tensor:
    """(1, K, h, w) float32: sure inside and outside, less so at the borders, a little rough everywhere."""
    random = np.random.default_rng(seed)
    size = SIZE // STRIDE
    planes = np.empty((CLASSES, size, size), np.float32)
    for k, mask in enumerate(label_map.unpack(hand(seed).labels, CLASSES)):
        share = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
        planes[k] = 16 * cv2.GaussianBlur(share, (0, 0), 1) - 8 + random.normal(0, 0.5, (size, size))
    return torch.from_numpy(planes)[None]


@lru_cache
def noise() -> Tensor:
    return torch.randn(1, CLASSES, SIZE // STRIDE, SIZE // STRIDE, generator=torch.Generator().manual_seed(0))


@lru_cache
def other_labels() -> label_map.LabelMap:
    """Another opinion on the same hand: moved by a few pixels, two bones missing, some pixels added."""
    moved = np.roll(hand().labels, (3, -2), axis=(0, 1)) & ~np.int32(1 << 4 | 1 << 20)
    moved[100:130, 60:100] |= 1 << 7
    return moved
