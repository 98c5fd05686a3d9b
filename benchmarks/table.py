"""``python -m benchmarks.table FILE``: a file of measurements as a Markdown table, put into the README and the docs.

Between ``<!-- benchmarks -->`` and ``<!-- /benchmarks -->`` of docs/kernels.md stand all rows, in the README those of
`SHORT`. Numbers come from the file alone.
"""

import argparse
import json
import re
from collections.abc import Sequence
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
    """Markdown of the rows called `names`, or of all."""
    lines = [
        f"Measured on {content['machine']}, torch {content['torch']}; usual / ours.",
        "",
        "| | usual ms | ours ms | ratio | peak MiB | equal |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for row in content["rows"]:
        if names is None or row["name"] in names:
            peaks = "" if row["usual_peak_mib"] is None else f"{row['usual_peak_mib']:.0f} / {row['ours_peak_mib']:.0f}"
            times = f"{_number(row['usual_ms'])} | {_number(row['ours_ms'])} | {_number(row['ratio'])}"
            lines.append(f"| {row['name']} | {times} | {peaks} | {row['equal']} |")
    return "\n".join(lines)


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
    MEASURED.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for path, names in ((ROOT / "README.md", SHORT), (ROOT / "docs" / "kernels.md", None)):
        path.write_text(put(path.read_text(encoding="utf-8"), table(content, names)), encoding="utf-8")


if __name__ == "__main__":
    main()
