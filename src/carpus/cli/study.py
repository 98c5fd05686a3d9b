"""`carpus study`: several arms, seeds and folds as one experiment."""

from pathlib import Path
from typing import Annotated

import typer

from carpus.cli.shell import app as carpus
from carpus.cli.shell import console
from carpus.errors import ConfigError
from carpus.progress import bar, stderr

app = typer.Typer(
    no_args_is_help=True,
    help="Find out which change to a method really helps: arms x seeds x folds, run and judged.",
)
carpus.add_typer(app, name="study", rich_help_panel="Compare methods")

OutArgument = Annotated[Path, typer.Argument(metavar="OUT", help="A folder of `carpus study run`.")]


@app.command()
def run(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or one that comes along: 2_losses.")],
    out: Annotated[Path, typer.Option(help="Folder of the study, to make or to go on with.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Data folder; without it, at the scale quick, data are made up.")
    ] = None,
    scale: Annotated[str, typer.Option(help="full: the report's networks and steps; quick: minutes.")] = "full",
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of every arm; the study's own if not given.")] = None,
    arm: Annotated[list[str] | None, typer.Option("--arm", help="Only this arm; may be given again.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs side by side; chosen if not given.")] = None,
    ray: Annotated[str | None, typer.Option("--ray", help="Run on a Ray cluster: auto, or its address.")] = None,
) -> None:
    """Train and score every arm with every seed and fold: `carpus study run 2_losses --scale quick --out DIR`.

    The same command goes on with a study that was interrupted, repeats nothing that is done, and tries again what
    failed. Exit status 1 if a run failed.
    """
    from carpus.study import conduct, spec, table, tasks

    path = spec.find(study)
    chosen = spec.load(path)
    if scale not in ("full", "quick") or scale not in chosen.scales:
        raise ConfigError(f"--scale {scale}: expected one of {', '.join(chosen.scales)}")
    unknown = [name for name in arm or [] if name not in chosen.arms]
    if unknown:
        raise ConfigError(f"--arm {unknown[0]}: expected one of {', '.join(chosen.arms)}")
    size = chosen.scales[scale]
    work = tasks.work(chosen, path, scale, seeds=seeds or size.seeds, folds=size.folds, arms=arm or None)
    with conduct.claim(out):
        with bar("phantom") as progress:
            root = data or conduct.made_up(out, size, progress)
        conduct.begin(out, path, scale, root, work.rows)

        def start() -> conduct.Executor:
            if ray is not None:
                from carpus.study.cluster import Cluster

                return Cluster(ray, root.resolve(), out.resolve())
            from carpus.study.local import Local, suited

            room, threads, gpus = suited(len(work.tasks), workers)
            stderr.print(f"{room} runs side by side, {threads} threads each", highlight=False)
            return Local(root.resolve(), out.resolve(), workers=room, threads=threads, gpus=gpus)

        with table.live(chosen.name, out, work.rows) as watch:
            now = conduct.conduct(work, out, start, watch)
    _show(out)
    if now.failed:
        raise typer.Exit(1)


@app.command()
def status(out: OutArgument) -> None:
    """How far a study is, from its folder: `carpus study status DIR`, also while it runs elsewhere."""
    _show(out)


def _show(out: Path) -> None:
    from rich.markup import escape

    from carpus.study import conduct, table

    opened = conduct.open_(out)
    now = table.standing(out, opened.rows)
    console.print(table.render(f"{opened.study.name}, {opened.scale}", out, opened.rows, now))
    first = {row.key: row for row in reversed(opened.rows)}
    for key, why in now.failed.items():
        row = first.get(key)
        which = f"{row.arm}, seed {row.seed}, fold {row.fold}" if row else key
        console.print(f"[red]failed[/] {escape(which)}: {escape(why)}", highlight=False, soft_wrap=True)
        console.print(f"  {out}/failed/{key}.txt, {out}/logs/{key}.txt", highlight=False, soft_wrap=True)
