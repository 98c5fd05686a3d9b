"""The verbs that take tensors."""

from carpus.kernels.cpu.runs import overlap
from carpus.kernels.cpu.sums import sums
from carpus.kernels.cpu.threshold import run_lengths, threshold

__all__ = ["overlap", "run_lengths", "sums", "threshold"]
