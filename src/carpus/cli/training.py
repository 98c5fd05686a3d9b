"""Commands that train, and that say what can be trained."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from carpus.cli.options import DATA, JsonOption
from carpus.cli.shell import app, console, leads
from carpus.errors import ConfigError
from carpus.progress import stderr, training_bar


@app.command(rich_help_panel="Train")
def demo(
    out: Annotated[Path, typer.Option(help="Folder to make: data/, run/, report.html, submission.csv.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Decides data and training.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo.")] = False,
) -> None:
    """The main job from end to end, on made-up data: phantom, train, evaluate, predict, report."""
    from carpus import demo

    demo.demo(out, seed=seed, overwrite=overwrite, console=console)


@app.command(rich_help_panel="Train")
def train(
    recipe: Annotated[
        list[str] | None,
        typer.Argument(metavar="RECIPE...", help="YAML files or names of recipes that come along; later ones win."),
    ] = None,
    data: Annotated[Path | None, DATA] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to make, or to go on with.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One setting, as in train.steps=500.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run; an error where there is none.")
    ] = False,
    longer: Annotated[
        Path | None, typer.Option("--continue", metavar="RUN", help="Train a finished run for longer, see --steps.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="With --continue: steps in all.")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what memory and time it will take, and what fits if it does not.")
    ] = False,
    gate: Annotated[
        bool, typer.Option("--gate", help="Only the checks, and whether one batch can be learnt by heart; no run.")
    ] = False,
) -> None:
    """Train a network: `carpus train unet --data DATA --out RUN`. `carpus schema` lists what can be set.

    The same command again goes on with a run that was interrupted, exactly as if it had not been.
    """
    if longer:
        _lengthen(
            longer,
            steps,
            data,
            out,
            overwrite=overwrite,
            resume=resume,
            barred=bool(recipe or settings or plan or gate),
        )
        return
    if not recipe or not data or (not out and not plan and not gate) or steps:
        raise ConfigError("train: expected RECIPE --data DATA --out RUN, or --continue RUN --steps N")
    if (plan or gate) and (resume or overwrite or (plan and gate)):
        raise ConfigError("--plan, --gate: expected one of them, without --resume and --overwrite: neither makes a run")
    from carpus import config

    chosen = config.load(recipe, settings or [])
    if plan:
        from carpus import plan as plans

        if not leads():
            return
        console.print(str(plans.plan(chosen, data, _tell)), highlight=False, soft_wrap=True)
        return
    from carpus import train

    if gate or out is None:
        found = train.overfit(chosen, data, tell=_tell)
        console.print(f"one batch learnt by heart: Dice {found.dice:.4f} after {found.steps} steps", highlight=False)
        if not found.reached:
            stderr.print(f"not the {found.goal} that a network which can learn reaches")
            raise typer.Exit(1)
        return
    with training_bar(chosen.train.steps) as watch:
        dice = train.train(chosen, data, out, overwrite=overwrite, resume=resume, watch=watch, tell=_tell)
    if leads():
        _trained(out, data, dice)


def _tell(line: str) -> None:
    stderr.print(escape(line), soft_wrap=True, highlight=False)


def _lengthen(
    run: Path, steps: int | None, data: Path | None, out: Path | None, *, overwrite: bool, resume: bool, barred: bool
) -> None:
    if steps is None or barred:
        raise ConfigError("--continue: expected --continue RUN --steps N and no recipe; the settings are those of RUN")
    from carpus import run as runs
    from carpus import train

    root = data or Path(runs.read(run).manifest["data"]["path"])
    with training_bar(steps) as watch:
        out, dice = train.lengthen(run, steps, root, out, overwrite=overwrite, resume=resume, watch=watch, tell=_tell)
    if not leads():
        return
    schedule = runs.read(out).manifest["continued"]["schedule"]
    console.print(f"{run} -> {out}, schedule {schedule}", highlight=False, soft_wrap=True)
    _trained(out, root, dice)


def _trained(out: Path, data: Path, dice: float) -> None:
    console.print(f"mean Dice of the validation patients [bold]{dice:.4f}[/]")
    known = (data / "test_labels").is_dir()
    then = f"evaluate {out} --data {data} --split test" if known else f"predict {out} --images DIR --out sub.csv"
    console.print(f"next: carpus {then}", highlight=False, soft_wrap=True)


@app.command(rich_help_panel="Train")
def models(as_json: JsonOption = False) -> None:
    """Which networks there are: parameters, stride, limits, and where weights come from."""
    from dataclasses import asdict

    from rich.table import Table

    from carpus import catalogue

    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in catalogue.ENTRIES], indent=2))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("name", "encoder", "size", "stride", "weights"):
        table.add_column(column, justify="right" if column in ("size", "stride") else "left", no_wrap=True)
    for entry in catalogue.ENTRIES:
        table.add_row(entry.name, entry.encoder, f"{entry.parameters / 1e6:.1f} M", str(entry.stride), entry.weights)
    console.print(table)
    console.print(f"\n{catalogue.NOTE}", highlight=False)


@app.command(rich_help_panel="Train")
def schema(as_json: Annotated[bool, typer.Option("--json", help="Print JSON Schema.")] = False) -> None:
    """Every setting of a recipe: name, type, default and meaning."""
    from rich import box
    from rich.table import Table

    from carpus import config

    if as_json:
        typer.echo(json.dumps(config.Config.model_json_schema(), indent=2))
        return
    table = Table(title="Settings of a recipe", box=box.SIMPLE_HEAD)
    table.add_column("setting", no_wrap=True)
    table.add_column("meaning")
    for name, kind, default, meaning in config.fields():
        table.add_row(name, f"{escape(meaning)}\n[dim]{escape(kind)}; default {escape(default)}[/]")
    console.print(table)
