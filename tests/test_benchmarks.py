"""The tables in the documents are those of the measurements, and a benchmark prints no time for a wrong result."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import bench_threshold, measure, table  # noqa: E402


@pytest.mark.parametrize(("name", "rows"), [("README.md", table.SHORT), ("docs/kernels.md", None)])
def test_a_document_shows_what_was_measured(name: str, rows: tuple[str, ...] | None) -> None:
    content = json.loads(table.MEASURED.read_text())
    text = (ROOT / name).read_text()
    assert "<!-- benchmarks -->" in text
    assert table.put(text, table.table(content, rows)) == text
    assert rows is None or set(rows) <= {row["name"] for row in content["rows"]}


def test_sides_that_differ_are_not_timed() -> None:
    ran = []
    comparison = measure.Comparison(
        "one", lambda: ran.append(0) or 1, lambda: 2, lambda a, b: measure.require(a == b, "the same")
    )
    with pytest.raises(measure.DifferentError, match="the same"):
        measure.compare(comparison, 1.0)
    assert len(ran) == 1


def test_a_row_holds_both_times_and_peaks() -> None:
    comparison = measure.Comparison("two", lambda: b"1" * (1 << 28), lambda: b"", lambda *_: "sizes aside")
    row = measure.compare(comparison, 0.1)
    assert row.ratio == row.usual_ms / row.ours_ms > 1
    assert row.usual_peak_mib is None or row.usual_peak_mib > 200


def test_a_prediction_may_differ_at_the_threshold_and_nowhere_else() -> None:
    logits = torch.full((1, 2, 4, 4), 5e-8)
    logits[0, 1] = -1e-3
    theirs, mine = np.zeros((8, 8), np.int32), np.zeros((8, 8), np.int32)
    assert bench_threshold.differing(logits, theirs, mine) == "the same pixels"
    mine[2, 3] = 1
    assert bench_threshold.differing(logits, theirs, mine).startswith("1 of 128 pixels differ")
    mine[2, 3] = 2
    with pytest.raises(measure.DifferentError, match="class 1 differs"):
        bench_threshold.differing(logits, theirs, mine)
