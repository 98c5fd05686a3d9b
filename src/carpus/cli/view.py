"""`carpus view`: the viewer."""

from pathlib import Path
from typing import Annotated

import typer

from carpus.cli.options import ClassesOption, parsed_size
from carpus.cli.shell import app

Paths = Annotated[
    list[Path],
    typer.Argument(metavar="PATH...", help="Data folders, folders of images, runs, submission CSVs, studies, recipes."),
]


@app.command(rich_help_panel="Data and submissions")
def view(
    paths: Paths,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than this machine reach no other.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 8501,
    size: Annotated[
        str | None, typer.Option(help="HxW of the images of a submission without images; 2048x2048 if not given.")
    ] = None,
    classes: ClassesOption = None,
    device: Annotated[str, typer.Option(help="For runs: auto, cpu or cuda.")] = "auto",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
) -> None:
    """Look at images, labels, predictions and their differences in a browser, and decide about labels.

    `carpus view DATA sub.csv` compares a submission with the annotations; `carpus view DATA RUN1 RUN2` two runs.
    """
    from carpus.labels import Classes
    from carpus.viewer import server, sources

    workspace = sources.open_paths(paths, Classes.read(classes) if classes else None, device, parsed_size(size))
    server.serve(workspace, host=host, port=port, browser=browser)
