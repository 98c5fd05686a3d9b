"""Synthetic hand radiographs with exact labels of 29 overlapping bones, made from measured anatomy.

>>> import numpy as np
>>> from carpus import phantom
>>> one = phantom.hand(np.random.default_rng(0), size=256)
>>> one.image.shape, one.labels.dtype
((256, 256), dtype('int32'))
"""

from carpus.phantom import anatomy
from carpus.phantom.dataset import Summary, write
from carpus.phantom.hands import Hand, hand
from carpus.phantom.skeleton import Patient, patient

__all__ = ["Hand", "Patient", "Summary", "anatomy", "hand", "patient", "write"]
