"""Commands on data sets and submissions, which need no network."""

import json
from pathlib import Path
from typing import Annotated

import typer

from carpus.cli.options import ClassesOption, JsonOption, WeightOption, parsed_size, weights
from carpus.cli.shell import app, console
from carpus.progress import bar


@app.command(rich_help_panel="Data and submissions")
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    patients: Annotated[int, typer.Option(min=1, help="Training patients, two hands each.")] = 20,
    test_patients: Annotated[int, typer.Option(min=0, help="Test patients.")] = 8,
    size: Annotated[int, typer.Option(min=64, max=8192, help="Side of the images in pixels.")] = 2048,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    annotation_noise: Annotated[
        float, typer.Option(min=0, help="Sigma of the training outlines' displacement, in pixels.")
    ] = 0.0,
    domain_shift: Annotated[
        float, typer.Option(min=0, max=1, help="How different the test images' exposure is.")
    ] = 0.0,
) -> None:
    """Make a data set of synthetic radiographs with exact labels, in the competition's layout."""
    from carpus import phantom

    with bar("phantom") as progress:
        made = phantom.write(
            out,
            patients=patients,
            test_patients=test_patients,
            size=size,
            seed=seed,
            annotation_noise_px=annotation_noise,
            domain_shift=domain_shift,
            progress=progress,
        )
    console.print(
        f"{len(made.train)} training and {len(made.test)} test images -> {out}", highlight=False, soft_wrap=True
    )


@app.command(rich_help_panel="Data and submissions")
def check(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Data folder with train/DCM and train/outputs_json.")],
    classes: ClassesOption = None,
    as_json: JsonOption = False,
) -> None:
    """What is wrong with a data set: missing, mirrored, swapped and outlying bones, leaks between splits.

    Exit status 2 if an error is found.
    """
    from carpus import check
    from carpus.labels import class_list

    with bar("check") as progress:
        report = check.check(data, classes=class_list(classes), progress=progress)
    if as_json:
        typer.echo(json.dumps(check.to_json(report), indent=2))
    else:
        console.print(check.render(report))
    if any(finding.severity == "error" for finding in report):
        raise typer.Exit(2)


@app.command(rich_help_panel="Data and submissions")
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Labels: a file or a folder.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="x.csv, x.json or a folder.")],
    source_format: Annotated[str | None, typer.Option("--from", help="Format of IN; guessed from its content.")] = None,
    target_format: Annotated[str | None, typer.Option("--to", help="Format of OUT; guessed from its name.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images, for formats that do not tell sizes.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="HxW of all images, instead of --images.")] = None,
    classes: ClassesOption = None,
    skip: Annotated[list[str] | None, typer.Option(help="A label of IN to leave out; may be given again.")] = None,
) -> None:
    """Convert labels pixel for pixel: competition, submission, coco, labelme, masks, dicomseg."""
    from carpus.formats import convert
    from carpus.labels import class_list

    with bar("convert") as progress:
        summary = convert.convert(
            source,
            target,
            source_format=source_format,
            target_format=target_format,
            images=images,
            size=parsed_size(size),
            classes=class_list(classes),
            skip=skip or [],
            progress=progress,
        )
    console.print(
        f"{summary.images} images, {summary.source_format} -> {summary.target_format}: {target}",
        highlight=False,
        soft_wrap=True,
    )
    for name, count in summary.empty.items():
        console.print(f"{name} is empty in {count} of {summary.images} images", highlight=False)


@app.command(rich_help_panel="Data and submissions")
def score(
    prediction: Annotated[Path, typer.Argument(metavar="SUBMISSION", help="CSV with image_name, class, rle.")],
    truth: Annotated[Path, typer.Option(help="Another such CSV, or a data folder.")],
    size: Annotated[
        str | None, typer.Option(help="HxW of the images, where the truth is a CSV; 2048x2048 if not given.")
    ] = None,
    public_ids: Annotated[
        Path | None, typer.Option(help="Names of the public images, one a line; the others are private.")
    ] = None,
    classes: ClassesOption = None,
    run: Annotated[
        list[Path] | None, typer.Option("--run", help="Runs that made it, to flag images they learnt from.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score a submission as the competition does: mean Dice, by class, Val / Public / Private."""
    from carpus import competition
    from carpus.labels import class_list

    with bar("score") as progress:
        result = competition.score(
            prediction,
            truth,
            classes=class_list(classes),
            size=parsed_size(size),
            public_ids=public_ids,
            progress=progress,
        )
    shared = 0
    if run:
        from carpus import run as runs
        from carpus.formats.submission import image_name

        learnt = {image_name(name) for path in run for name, _ in runs.read(path).pseudo_images}
        shared = len(learnt & set(result.names))
    if as_json:
        typer.echo(json.dumps(result.to_json() | ({"transductive": shared} if shared else {}), indent=2))
        return
    console.print(result)
    if shared:
        console.print(f"transductive: {shared} of these images were learnt from with predictions for labels")


@app.command(rich_help_panel="Data and submissions")
def ensemble(
    submissions: Annotated[list[Path], typer.Argument(metavar="CSV...", help="Two or more submissions.")],
    out: Annotated[Path, typer.Option(help="The submission to write.")],
    size: Annotated[str, typer.Option(help="HxW of the images.")] = "2048x2048",
    weight: WeightOption = None,
    share: Annotated[
        float, typer.Option(min=0, max=0.999, help="A pixel needs more than this share of the votes.")
    ] = 0.5,
    classes: ClassesOption = None,
) -> None:
    """Let submissions vote, pixel by pixel, on their run lengths: for teams that have only CSVs.

    `carpus ensemble a.csv b.csv c.csv --out voted.csv`. Take an odd number, or weights: half of the votes is no
    majority. `carpus predict` with several runs averages probabilities, which is better where the runs are at hand.
    """
    from carpus import ensemble
    from carpus.labels import class_list

    with bar("ensemble") as progress:
        count = ensemble.ensemble(
            submissions,
            out,
            size=parsed_size(size) or (0, 0),
            weights=weights(weight),
            share=share,
            classes=class_list(classes),
            progress=progress,
        )
    console.print(f"{count} images of {len(submissions)} submissions -> {out}", highlight=False, soft_wrap=True)
