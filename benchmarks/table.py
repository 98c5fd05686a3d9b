"""``python -m benchmarks.table FILE``: a file of measurements as a Markdown table, put into the README and the docs.

Between ``<!-- benchmarks -->`` and ``<!-- /benchmarks -->`` of docs/training.md stand the rows that are of images, as
images a second, in docs/kernels.md all others, in the README those of `SHORT`. Numbers come from docs/benchmarks.json
alone, where a row that is measured again replaces the one of its name.
"""

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "docs" / "benchmarks.json"

SHORT = (
    "loss, forward and backward, 2 images",
    "logits to runs",
    "Dice of label maps",
    "polygons to masks (H, W, K)",
    "surface distances, against SciPy on the full frame",
)


def table(content: dict[str, Any], names: Sequence[str] | None = None) -> str:
    """Markdown of the rows called `names`, or of all that are not of images."""
    lines = [
        *_head(content),
        "| | usual ms | ours ms | ratio | peak MiB | equal |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for row in content["rows"]:
        if row["name"] in names if names is not None else not row.get("images"):
            times = f"{_number(row['usual_ms'])} | {_number(row['ours_ms'])} | {_number(row['ratio'])}"
            lines.append(f"| {row['name']} | {times} | {_peaks(row)} | {row['equal']} |")
    return "\n".join(lines)


def speeds(content: dict[str, Any]) -> str:
    """Markdown of the rows that are of images, as images a second."""
    lines = [
        *_head(content),
        "| | usual images/s | ours images/s | ratio | peak MiB | equal |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for row in content["rows"]:
        if row.get("images"):
            usual, ours = (_number(row["images"] * 1000 / row[side]) for side in ("usual_ms", "ours_ms"))
            lines.append(
                f"| {row['name']} | {usual} | {ours} | {_number(row['ratio'])} | {_peaks(row)} | {row['equal']} |"
            )
    return "\n".join(lines)


DOCUMENTS: dict[Path, Callable[[dict[str, Any]], str]] = {
    ROOT / "README.md": lambda content: table(content, SHORT),
    ROOT / "docs" / "kernels.md": table,
    ROOT / "docs" / "training.md": speeds,
}


def _head(content: dict[str, Any]) -> list[str]:
    return [f"Measured on {content['machine']}, torch {content['torch']}; usual / ours.", ""]


def _peaks(row: dict[str, Any]) -> str:
    return "" if row["usual_peak_mib"] is None else f"{row['usual_peak_mib']:.0f} / {row['ours_peak_mib']:.0f}"


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def put(text: str, rows: str) -> str:
    """`text` with `rows` between its markers."""
    marked = re.compile(r"(<!-- benchmarks -->\n).*?(<!-- /benchmarks -->)", re.DOTALL)
    return marked.sub(lambda found: f"{found[1]}{rows}\n{found[2]}", text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=MEASURED, help="what `python -m benchmarks` wrote")
    content = json.loads(parser.parse_args().file.read_text(encoding="utf-8"))
    if MEASURED.is_file():
        known = json.loads(MEASURED.read_text(encoding="utf-8"))
        again = {row["name"]: row for row in content["rows"]}
        content["rows"] = [again.pop(row["name"], row) for row in known["rows"]] + list(again.values())
    MEASURED.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for path, rows in DOCUMENTS.items():
        path.write_text(put(path.read_text(encoding="utf-8"), rows(content)), encoding="utf-8")


if __name__ == "__main__":
    main()
