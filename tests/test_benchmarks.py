"""The tables in the documents are those of the measurements, and a benchmark prints no time for a wrong result."""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402
    bench_overlap,
    bench_statistics,
    bench_threshold,
    bench_train,
    measure,
    table,
)

from carpus import losses  # noqa: E402


@pytest.mark.parametrize("path", table.DOCUMENTS, ids=lambda path: path.name)
def test_a_document_shows_what_was_measured(path: Path) -> None:
    content = json.loads(table.MEASURED.read_text())
    text = path.read_text()
    assert "<!-- benchmarks -->" in text
    assert table.put(text, table.DOCUMENTS[path](content)) == text
    assert set(table.SHORT) <= {row["name"] for row in content["rows"]}
    assert {row["name"] for row in content["rows"] if row.get("images")} >= {"decode a case, PNG + JSON"}


def test_images_a_second_are_those_of_a_call() -> None:
    of_two = {"name": "two", "usual_ms": 4000.0, "ours_ms": 500.0, "ratio": 8.0, "equal": "", "images": 2}
    content = {"machine": "here", "torch": "2", "rows": [of_two | {"usual_peak_mib": None, "ours_peak_mib": None}]}
    assert "| two | 0.50 | 4.0 | 8.0 |" in table.speeds(content)
    assert "two" not in table.table(content)


def test_a_step_that_learns_otherwise_is_not_timed() -> None:
    images, labels = (
        torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)),
        torch.zeros(2, 96, 96, dtype=torch.int32),
    )
    labels[:, 20:60, 20:60] = (1 << 29) - 1  # an empty class has a Dice of its own in the two losses
    assert "gradients within" in bench_train.account(images, labels)

    class Other(bench_train.Ours):
        def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
            super().__init__(images, labels)
            self.loss = losses.build({"bce": 0.5, "jaccard": 0.5})

    with pytest.raises(measure.DifferentError):
        bench_train.account(images, labels, Other)


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


@pytest.mark.parametrize("benchmark", [bench_overlap, bench_statistics])
def test_both_sides_of_a_benchmark_still_do_the_same(benchmark: ModuleType) -> None:
    for comparison in benchmark.comparisons(quick=True):
        assert comparison.equal(comparison.usual(), comparison.ours())
