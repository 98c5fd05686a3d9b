"""The table of a study at work: how far every arm is, from what lies in the run folders, wherever they were made."""

import csv
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from carpus.formats import files
from carpus.progress import stderr
from carpus.study import tasks
from carpus.study.conduct import Standing
from carpus.study.tasks import Row


def standing(out: Path, rows: Sequence[Row]) -> Standing:
    """Where a study stands by its folders alone; what was begun counts as running."""
    now = Standing(set(), set(), {})
    for key in dict.fromkeys(row.key for row in rows):
        state = tasks.state(out, key)
        if state == "done":
            now.done.add(key)
        elif state == "failed":
            now.failed[key] = tasks.failure(out, key)
        elif state == "begun":
            now.running.add(key)
    return now


def render(title: str, out: Path, rows: Sequence[Row], now: Standing) -> Table:
    """A row an arm: runs done, steps of those at work, mean validation Dice of those done, failures."""
    table = Table(title=title, box=None, pad_edge=False, padding=(0, 2, 0, 0), title_justify="left")
    for name in ("arm", "done", "at work", "Val Dice", "failed"):
        table.add_column(name, justify="left" if name in ("arm", "at work") else "right")
    for arm in dict.fromkeys(row.arm for row in rows):
        keys = [row.key for row in rows if row.arm == arm]
        done = [key for key in keys if key in now.done]
        dice = [value for key in done if (value := _dice(out, key)) is not None]
        failed = sum(key in now.failed for key in keys)
        table.add_row(
            Text(arm),
            f"{len(done)} of {len(keys)}",
            ", ".join(_step(out, key) for key in keys if key in now.running),
            f"{sum(dice) / len(dice):.4f}" if dice else "–",
            Text(str(failed), style="red") if failed else "",
        )
    return table


@contextmanager
def live(title: str, out: Path, rows: Sequence[Row]) -> Iterator[Callable[[Standing], None]]:
    """Show the table while a study runs, and a line for every run that ends."""
    first = {row.key: row for row in reversed(rows)}
    told = {key for key in first if tasks.is_done(out, key)}
    before, begun = len(told), time.monotonic()
    screen = Live(console=stderr, refresh_per_second=2, transient=True) if stderr.is_terminal else None
    with screen or nullcontext():

        def watch(now: Standing) -> None:
            for key in first:
                if key not in told and (key in now.done or key in now.failed):
                    told.add(key)
                    stderr.print(_ended(out, first[key], now, first), highlight=False, soft_wrap=True)
            if screen:
                done = sum(key in now.done for key in first)
                made, left = done - before, len(first) - len(told)
                ahead = f", about {(time.monotonic() - begun) / made * left / 60:.0f} min left" if made else ""
                foot = f"{done} of {len(first)} runs done, {len(now.running)} at work{ahead}"
                screen.update(Group(render(title, out, rows, now), Text(foot)))

        yield watch


def _ended(out: Path, row: Row, now: Standing, first: Mapping[str, Row]) -> Text:
    which = f"{row.arm}, seed {row.seed}, fold {row.fold}"
    if row.key in now.failed:
        return Text(f"failed {which}: {now.failed[row.key]}", style="red")
    dice = _dice(out, row.key)
    done = sum(key in now.done for key in first)
    return Text(f"{done} of {len(first)}  {which}" + (f": Val {dice:.4f}" if dice is not None else ""))


@cache
def _dice(out: Path, key: str) -> float | None:
    """The validation Dice of a task that is done; None of one whose thresholds were fitted on these patients."""
    folder = tasks.folder(out, key)
    calibrated = "calibrated" in files.read_json(folder / tasks.DONE)
    return None if calibrated else files.read_json(folder / "manifest.json")["val_dice"]


def _step(out: Path, key: str) -> str:
    """The step that a run at work is at."""
    try:
        with (tasks.folder(out, key) / "metrics.csv").open(encoding="utf-8") as lines:
            return max((row["step"] for row in csv.DictReader(lines)), key=int, default="begun")
    except (OSError, KeyError, ValueError):  # not begun yet, or just being replaced
        return "begun"
