"""The arithmetic that a network computes in: the one list of it."""

from typing import Literal, get_args

Precision = Literal["auto", "32", "bf16", "fp16"]
"""auto: bf16 where processor or GPU has it, else 32."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

CHOICES = f"{', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}"
"""All of them, in a sentence."""
