"""Cells of tables: numbers as text, with "–" where there is none."""

import math
from collections.abc import Collection, Sequence

import numpy as np

from carpus.report.charts import number
from carpus.study import stats
from carpus.study.pairing import ALL


def signed(value: float, digits: int = 4) -> str:
    """With its sign, a real minus; "–" where there is none."""
    return f"{value:+.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"


def four(value: float | None) -> str:
    """With four digits; "–" where there is none."""
    return f"{value:.4f}" if value is not None and math.isfinite(value) else "–"


def interval(of: stats.Contrast, digits: int = 4) -> str:
    """That of the mean over all classes, as "−0.0010 to +0.0020"; "–" where there is none."""
    low, high = float(of.low[ALL]), float(of.high[ALL])
    return f"{signed(low, digits)} to {signed(high, digits)}" if math.isfinite(low) else "–"


def p_value(p: float) -> str:
    """With three digits; "–" where there is none."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def over_seeds(values: Sequence[float] | np.ndarray, digits: int = 4) -> str:
    """The mean and, of several, ± the standard deviation; "–" of none."""
    if not len(values):
        return "–"
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean


def extremes(values: Collection[int]) -> str:
    """The smallest and the largest, as 3–5, or the one they all are; "–" of none."""
    if not values:
        return "–"
    return "–".join(dict.fromkeys(number(end) for end in (min(values), max(values))))


def duration(seconds: float) -> str:
    """As "42 s", "3.5 min" or "7.2 h"."""
    if math.isnan(seconds):
        return "–"
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.1f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def count(value: float, unit: str = "", digits: int = 0) -> str:
    """With thin spaces between thousands, and its unit; "–" where there is none."""
    return f"{value:,.{digits}f}{unit}".replace(",", "\u202f") if math.isfinite(value) else "–"
