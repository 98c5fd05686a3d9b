"""``python -m benchmarks.bench_gpu [--json FILE]``: on a CUDA device, every check first, then loss and prediction.

The bound printed with the loss is arithmetic: `FLOAT32` and `SPECIAL` instructions a pixel and class, issued at the
device's full rate and its boost clock; special functions run at an eighth of the rate of multiplications.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import bench_sums, bench_threshold, inputs
from benchmarks.measure import DifferentError
from carpus import kernels
from carpus.labels import LabelMap

FLOAT32, SPECIAL = 95, 4
"""Forward and backward together, counted in the kernels' source."""


def measured(run: Callable[[], Any], turns: int) -> float:
    """Milliseconds of a run, device work included."""
    took = []
    for _ in range(turns):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        result = run()
        end.record()
        torch.cuda.synchronize()
        took.append(begin.elapsed_time(end))
        del result
    return statistics.median(took)


def peak(run: Callable[[], Any]) -> float:
    """MiB of device memory over what there was before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = run()
    torch.cuda.synchronize()
    used = (torch.cuda.max_memory_allocated() - before) / 2**20
    del result
    return used


def bound_ms(pixels: int) -> float:
    device = torch.cuda.get_device_properties(0)
    clock_hz = getattr(device, "clock_rate", 1_700_000) * 1e3
    cycles = pixels * (FLOAT32 / 128 + SPECIAL / 16) / device.multi_processor_count
    return cycles / clock_hz * 1e3


def text_of(labels: torch.Tensor) -> list[str]:
    """Runs of a label map on the device, as text."""
    return [kernels.text(runs) for runs in kernels.encode(labels.cpu().numpy(), inputs.CLASSES)]


def map_of_text(texts: list[str]) -> LabelMap:
    """A label map from the texts of its classes."""
    runs = [np.array(text.split(), np.int64).reshape(-1, 2) - [1, 0] for text in texts]
    return kernels.decode(runs, bench_threshold.SIZE)


def usual_text(logits: torch.Tensor) -> list[str]:
    """Planes of masks brought to the CPU and encoded there, one after another."""
    z = torch.nn.functional.interpolate(logits, bench_threshold.SIZE, mode="bilinear", align_corners=False)
    return bench_threshold.text_of((torch.sigmoid(z) > 0.5)[0].cpu().numpy())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_gpu", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the table to this file too")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device here: the Triton kernels were checked in their interpreter only")
    tests = Path(__file__).parents[1] / "tests" / "kernels" / "test_gpu.py"
    if pytest.main(["-q", str(tests)]):
        raise DifferentError("the checks failed: nothing is measured")
    rows = [loss_row(), text_row()]
    if options.json:
        content = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": rows}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def loss_row() -> dict[str, Any]:
    logits = inputs.logits().cuda()
    labels = torch.from_numpy(inputs.hand().labels)[None].cuda()
    targets = bench_sums.planes(labels, inputs.CLASSES)

    def usual() -> Any:
        return bench_sums.usual(logits, targets)

    def ours() -> Any:
        return bench_sums.ours(logits, labels)

    account = bench_sums.equal(usual(), ours())
    times = [(measured(usual, 3), measured(ours, 10)) for _ in range(10)]
    row = line("loss, forward and backward, 1 image", times, account, peak(usual), peak(ours))
    bound = bound_ms(labels.numel() * inputs.CLASSES)
    print(f"  arithmetic bound {bound:.2f} ms; ours takes {row['ours_ms'] / bound:.1f} times that")
    return row | {"bound_ms": bound}


def text_row() -> dict[str, Any]:
    logits, half = inputs.logits().cuda(), bench_threshold.HALF.cuda()

    def usual() -> list[str]:
        return usual_text(logits)

    def ours() -> list[str]:
        return text_of(kernels.threshold(logits, half, bench_threshold.SIZE)[0])

    theirs, mine = (map_of_text(of()) for of in (usual, ours))
    account = bench_threshold.differing(logits.cpu(), theirs, mine)
    times = [(measured(usual, 1), measured(ours, 5)) for _ in range(5)]
    return line("logits to RLE text, transfer included", times, account, peak(usual), peak(ours))


def line(
    name: str, times: list[tuple[float, float]], account: str, usual_mib: float, ours_mib: float
) -> dict[str, Any]:
    usual, ours = (statistics.median(side) for side in zip(*times, strict=True))
    peaks = f"{usual_mib:.0f} / {ours_mib:.0f} MiB"
    print(f"{name:46}{usual:10.2f} ms{ours:10.3f} ms  x{usual / ours:.0f}  {peaks}  {account}")
    return {
        "name": name, "usual_ms": usual, "ours_ms": ours, "ratio": usual / ours,
        "usual_peak_mib": usual_mib, "ours_peak_mib": ours_mib, "equal": account,
    }  # fmt: skip


if __name__ == "__main__":
    main()
