"""What all commands share: how an error becomes one line and an exit status, where lines are printed, the options."""

import os
import time
import warnings
from typing import Annotated, Any

import typer
import typer.core
from rich.console import Console
from rich.markup import escape

from carpus.errors import REFUSALS, CapacityError, DataWarning, DivergedError, StoppedError
from carpus.progress import stderr

console = Console()
"""Results; progress and errors go to `stderr`."""

PATIENCE_SECONDS = 10
"""How long a process that is not its machine's first keeps what is wrong to itself, see `_fail`."""


class _Commands(typer.core.TyperGroup):
    """Turns what a command raises into one line and an exit status: 2 for the input, 1 for a fault."""

    def invoke(self, ctx: Any) -> Any:
        warnings.showwarning = _show_warning
        warnings.simplefilter("error" if ctx.params["strict"] else "always", DataWarning)
        try:
            return super().invoke(ctx)
        except REFUSALS as error:
            _fail(ctx, "error", error, 2)
        except KeyboardInterrupt:
            stderr.print("stopped")
            raise typer.Exit(130) from None
        except StoppedError as error:
            if leads():
                stderr.print(str(error), highlight=False)
            raise typer.Exit(128 + error.signal) from None
        except (OSError, DivergedError, CapacityError) as error:
            _fail(ctx, "error", error, 1)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            if type(error).__module__.startswith("typer"):
                raise
            _fail(ctx, f"fault: {type(error).__name__}", error, 1)


def leads() -> bool:
    """Whether this is the one of the processes of torchrun, SLURM or Fabric that reports what all came to."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"))


def _follows() -> bool:
    """Whether this is one of several processes of a machine, and not the first."""
    return any(os.environ.get(name, "0") != "0" for name in ("LOCAL_RANK", "SLURM_LOCALID"))


def _fail(ctx: Any, kind: str, error: Exception, status: int) -> None:
    if ctx.params["debug"]:
        raise error
    if isinstance(error, REFUSALS) and _follows():
        # Mostly all processes of a machine are refused the same. Then the first says so and ends, upon which torchrun
        # ends the others while they wait here. What one of them alone was refused is said all the same, a little later.
        time.sleep(PATIENCE_SECONDS)
    # Notes say at what it happened, as a worker that fails names its image; advice wraps the error that has them.
    notes = [note for one in (error, error.__cause__) for note in getattr(one, "__notes__", ())]
    told = f"{error} ({'; '.join(notes)})" if notes else str(error)
    stderr.print(f"[bold red]{kind}:[/] {escape(told)}", soft_wrap=True, highlight=False)
    if kind.startswith("fault"):
        stderr.print("This is a fault of Carpus; `carpus --debug ...` shows where.")
    raise typer.Exit(status)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, DataWarning):
        stderr.print(f"[yellow]warning:[/] {escape(str(message))}", soft_wrap=True, highlight=False)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    add_completion=False,
)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        typer.echo(f"carpus {version('carpus')}")
        raise typer.Exit


@app.callback()
def carpus(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Treat doubtful input (warnings) as errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Segment the 29 bones of the hand in radiographs, and find out which change to a method really helps.

    Begin with `carpus demo`: it makes data, trains, scores and writes a report, in a few minutes on a laptop.
    """
