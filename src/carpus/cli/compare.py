"""`carpus compare`, and how a judgement is shown in a terminal."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carpus.cli.options import ClassesOption, parsed_size
from carpus.cli.shell import app, console
from carpus.errors import ConfigError, warn
from carpus.progress import bar, stderr

if TYPE_CHECKING:
    from carpus.report import Listing
    from carpus.study.judgement import Judgement

OutOption = Annotated[
    Path | None, typer.Option("--report", help="HTML page to write; x.html has x_tables/ and x_figures/ beside.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda; for the pictures of the worst cases.")]


@app.command(rich_help_panel="Compare methods")
def compare(
    arms: Annotated[
        list[str],
        typer.Argument(metavar="ARM...", help="Run folder, folder of runs, submission, or NAME=A,B,C; first: control."),
    ],
    truth: Annotated[
        Path | None, typer.Option("--truth", "--data", help="Data folder, or the truth as a submission.")
    ] = None,
    margin: Annotated[float, typer.Option(min=1e-6, max=1, help="Differences below this are as good as none.")] = 0.001,
    report: OutOption = None,
    classes: ClassesOption = None,
    size: Annotated[
        str | None, typer.Option(help="HxW of the images, where --truth is a submission; 2048x2048 if not given.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Compare runs or submissions, the first being the control: `carpus compare RUN_A RUN_B`.

    Runs that differ in seed and fold alone are one arm in several seeds; with one seed an arm the verdict is always
    "cannot tell". `carpus compare BCE=a0,a1,a2 Dice=b0,b1,b2 --report page.html`.
    """
    from carpus.labels import class_list
    from carpus.report import require_place
    from carpus.study import gather, judge, stats
    from carpus.study.report import page, worst
    from carpus.study.spec import Pair

    if report is not None:
        require_place(report)
    with bar("compare") as progress:
        found = gather.of_paths(
            arms, truth=truth, classes=class_list(classes), size=parsed_size(size), progress=progress
        )
    control, *others = found
    if not others:
        raise ConfigError(f"compare: all that was given is one arm, {control}; name them, as in A=RUN,RUN B=RUN,RUN")
    judgement = judge.judge(found, [Pair(name, control) for name in others], margin=margin)
    show(judgement)
    if report is not None:
        cases = []
        if truth is not None and truth.is_dir():
            with bar("worst cases") as progress:
                cases = worst.collect(judgement, truth, device=device, progress=progress)
        told = None if margin == stats.MARGIN else margin
        given = {"--truth": truth, "--size": size, "--classes": classes, "--margin": told}
        options = [word for name, value in given.items() if value is not None for word in (name, str(value))]
        command = shlex.join(["carpus", "compare", *arms, *options])
        page.write(report, judgement, title=f"Against {control}", cases=cases, facts=page.facts(judgement, command))
        stderr.print(f"-> {report}", highlight=False, soft_wrap=True)


def show(judgement: "Judgement") -> None:
    """Print scores, verdicts and warnings."""
    from carpus.study import omissions
    from carpus.study.report import arm_tables, contrast_tables

    for sentence in omissions.sentences(judgement):
        warn(sentence)
    shown = (arm_tables.scores(judgement), *contrast_tables.short(judgement), contrast_tables.warnings(judgement))
    for listing in shown:
        if listing.rows:
            table(listing)


def table(listing: "Listing") -> None:
    """Print one listing."""
    from rich.markup import escape
    from rich.table import Table

    console.print(f"\n[bold]{escape(listing.title)}[/]", highlight=False)
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in listing.columns:
        rows.add_column(escape(name))
    for row in listing.rows:
        rows.add_row(*map(escape, row))
    console.print(rows)
    console.print(f"[dim]{escape(listing.told)}[/]", highlight=False)
