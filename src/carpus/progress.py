"""Progress bars for long work, on stderr; nothing moves where that is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console

stderr = Console(stderr=True)


@dataclass(frozen=True)
class Step:
    """What is known after a training step, counted from 1: the mean loss of late, and Dice where it was measured."""

    step: int
    loss: float
    learning_rate: float
    images_per_second: float
    val_dice: float | None = None


@contextmanager
def bar(verb: str) -> Iterator[Callable[..., None]]:
    """A progress bar for (done, all) calls; nothing is drawn where stderr is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal, transient=True) as progress:
        task = progress.add_task(verb, total=None)
        yield lambda done, total=None: progress.update(task, completed=done, total=total)


@contextmanager
def training_bar(steps: int) -> Iterator[Callable[[Step], None]]:
    """Live state of a training: step, loss, Dice, images a second, time left; plain lines where it is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("train"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  Dice {task.fields[dice]}  {task.fields[speed]} images/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal, transient=True) as progress:
        task = progress.add_task("train", total=steps, loss="-", dice="-", speed="-")

        def watch(now: Step) -> None:
            progress.update(task, completed=now.step, loss=f"{now.loss:.4f}", speed=f"{now.images_per_second:.1f}")
            if now.val_dice is not None:
                progress.update(task, dice=f"{now.val_dice:.4f}")
                stderr.print(
                    f"step {now.step}/{steps}  loss {now.loss:.4f}  Dice {now.val_dice:.4f}  "
                    f"{now.images_per_second:.1f} images/s",
                    highlight=False,
                )

        yield watch
