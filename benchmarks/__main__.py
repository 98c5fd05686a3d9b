"""``python -m benchmarks [--json FILE] [--quick] [NAME ...]``: every benchmark, or those whose name begins so."""

import argparse
import importlib
import json
import platform
import sys
from pathlib import Path

# Before torch and numba start their threads.
from carpus.kernels import cpu  # noqa: F401  # isort: skip
import numba
import torch

from benchmarks.measure import Row, compare


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        help="sums, threshold, overlap, runs, shapes, surface, data, predict, score, statistics, train",
    )
    parser.add_argument("--json", type=Path, help="write the table to this file too")
    parser.add_argument("--quick", action="store_true", help="at most a minute: one image, smaller losses, few turns")
    options = parser.parse_args()
    files = sorted(file.stem for file in Path(__file__).parent.glob("bench_*.py") if file.stem != "bench_gpu")
    for name in options.names:
        if not any(file.startswith(f"bench_{name}") for file in files):
            parser.error(f"no benchmark {name}, known: {' '.join(file.removeprefix('bench_') for file in files)}")
    chosen = [file for file in files if file.startswith(tuple(f"bench_{name}" for name in options.names or [""]))]
    if options.json and not options.json.absolute().parent.is_dir():
        parser.error(f"{options.json.parent}: no such folder")
    machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    print(f"{machine}, torch {torch.__version__}, numba {numba.__version__}; usual / ours, medians in turns")
    print(f"{'':46}{'usual ms':>10}{'ours ms':>10}{'ratio':>8}{'peak MiB':>16}")
    rows = []
    for name in chosen:
        for comparison in importlib.import_module(f"benchmarks.{name}").comparisons(options.quick):
            rows.append(compare(comparison, 0.5 if options.quick else 15))
            show(rows[-1])
    if options.json:
        content = {"machine": machine, "torch": torch.__version__, "rows": [row.as_dict() for row in rows]}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def show(row: Row) -> None:
    peaks = "" if row.usual_peak_mib is None else f"{row.usual_peak_mib:.0f} / {row.ours_peak_mib:.0f}"
    print(f"{row.name:46}{row.usual_ms:10.1f}{row.ours_ms:10.2f}{row.ratio:8.0f}{peaks:>16}  {row.equal}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
