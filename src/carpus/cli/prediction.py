"""Commands that use a trained run: its quality, its predictions, what makes them better, another format for it."""

import json
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from carpus.cli.options import (
    CalibrationOption,
    DataOption,
    DeviceOption,
    JsonOption,
    RunArgument,
    RunsArgument,
    with_options,
)
from carpus.cli.shell import app, console
from carpus.progress import bar, stderr

if TYPE_CHECKING:
    from carpus.predict import Options


@app.command(rich_help_panel="Predict and measure")
@with_options
def evaluate(
    *,
    run: RunsArgument,
    data: DataOption,
    split: Annotated[
        str, typer.Option(help="val: the patients the run held out; test: those with known truth.")
    ] = "val",
    report: Annotated[
        Path | None, typer.Option(help="HTML page to write: pictures of the worst, all metrics, pose, confusions.")
    ] = None,
    device: DeviceOption = "auto",
    options: "Options",
    flags: list[str],
    calibration: CalibrationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Dice, IoU, surface Dice and HD95 of a run at the labels' own resolution, by class and by kind of image.

    `carpus evaluate RUN --data DATA --split test --report page.html`. Several runs are scored as an ensemble. What one
    run as it is (no options, no calibration) comes to goes into RUN/scores.csv, a row a case, class and metric;
    docs/prediction.md says how they are defined.
    """
    from rich import box
    from rich.table import Table

    from carpus import assess, evaluate
    from carpus import run as runs
    from carpus.ensemble import require_different

    trained = [runs.read(path) for path in run]
    require_different(run, [each.manifest["files"][runs.WEIGHTS] for each in trained])
    fitted = ["--calibration", str(calibration)] if calibration else []
    typed = ["carpus", "evaluate", *map(str, run), "--data", str(data), "--split", split, *flags, *fitted]
    with bar("evaluate") as progress:
        table, listings = assess.assess(
            trained,
            data,
            split,
            report,
            command=shlex.join(typed),
            device=device,
            options=options,
            calibration=calibration,
            progress=progress,
        )
    summary = evaluate.summary(table, trained[0].classes)
    notes = [each.manifest.get("weights", {}).get("note") for each in trained if split == "val"]
    for note in dict.fromkeys(filter(None, notes)):
        stderr.print(f"note: {note}", highlight=False, soft_wrap=True)
    for doubt in assess.doubts(table):
        stderr.print(doubt, highlight=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    for listing in listings:
        title = f"{listing.title}, {split}: {summary['images']} images"
        rows = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for place, (name, *cells) in enumerate(zip(listing.columns, *listing.rows, strict=True)):
            # Words and numbers are never cut; heads take two lines, so that all columns fit a terminal.
            longest = max(len(word) for text in (name, *cells) for word in text.split())
            if place:
                half = (len(name) + 3) // 2 if len(name) > 6 else len(name)
                rows.add_column(escape(name), justify="right", width=max(longest, half))
            else:
                rows.add_column(escape(name), min_width=longest)
        for row in listing.rows:
            rows.add_row(*map(escape, row))
        console.print(rows)


@app.command(rich_help_panel="Predict and measure")
@with_options
def predict(
    *,
    context: typer.Context,
    run: RunsArgument,
    images: Annotated[Path, typer.Option(help="An image (PNG, JPEG, BMP, TIFF, DICOM) or a folder of them.")],
    out: Annotated[Path, typer.Option(help="sub.csv: a submission; x.json: COCO; a folder: annotations.")],
    to: Annotated[
        str | None, typer.Option(help="Format of OUT where its name does not tell; see `carpus convert`.")
    ] = None,
    device: DeviceOption = "auto",
    options: "Options",
    calibration: CalibrationOption = None,
    overlays: Annotated[Path | None, typer.Option(help="Folder for pictures with the outlines drawn in.")] = None,
    probabilities: Annotated[Path | None, typer.Option(help="Folder for probabilities, an .npz an image.")] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Let a Ray cluster predict: auto, or HOST:PORT; one network a GPU."),
    ] = None,
) -> None:
    """Segment images with a trained run, or with several as an ensemble.

    `carpus predict RUN --images DIR --out sub.csv`; interrupted, the same command goes on where it stopped.

    `carpus predict RUN1 RUN2 RUN3 --images DIR --out sub.csv --flip` averages three runs, each from two sides; what
    that is worth, `carpus evaluate` says, which takes the same options.

    An image that cannot be read is left out and named, and the exit status is 2; `carpus --strict predict` stops at it.
    """
    from carpus import cluster, segment
    from carpus import run as runs
    from carpus.ensemble import require_different
    from carpus.postprocess import Calibration

    opened = [runs.read(path) for path in run]
    require_different(run, [each.manifest["files"][runs.WEIGHTS] for each in opened])
    with bar("predict") as progress:
        summary = segment.segment(
            opened,
            images,
            out,
            device=device,
            options=options,
            calibration=Calibration.read(calibration, opened[0].classes) if calibration else None,
            beside=segment.Beside(overlays, probabilities),
            target_format=to,
            strict=context.find_root().params["strict"],
            by=partial(cluster.work, ray) if ray else None,
            progress=progress,
        )
    told = f", {summary.continued} of them from before" if summary.continued else ""
    console.print(f"{summary.images} images -> {out}{told}", highlight=False, soft_wrap=True)
    for fault in summary.faults:
        stderr.print(f"[bold red]left out:[/] {escape(str(fault))}", soft_wrap=True, highlight=False)
    if summary.faults:
        raise typer.Exit(2)


@app.command(rich_help_panel="Predict and measure")
@with_options
def calibrate(
    *,
    run: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs with different validation folds.")],
    data: DataOption,
    out: Annotated[Path, typer.Option(help="JSON file for `carpus predict --calibration`.")],
    device: DeviceOption = "auto",
    options: "Options",
    flags: list[str],
) -> None:
    """Find what helps after the networks, class by class, on patients they held out: thresholds, temperatures, repairs.

    `carpus calibrate FOLD0 FOLD1 FOLD2 FOLD3 FOLD4 --data DATA --out calibration.json`. Each patient is predicted by
    the run that never saw it; 10 of them are the least. A step is kept only if it helps patients it was not chosen on,
    beyond chance. Given the folds of several recipes, it weighs the recipes against each other, too.
    """
    from rich.table import Table

    from carpus import calibrate
    from carpus import run as runs
    from carpus.crossfit import LOSS

    opened = [runs.read(path) for path in run]
    with bar("calibrate") as progress:
        found = calibrate.calibrate(opened, data, out, device=device, options=options, progress=progress)
    if found.kept:
        rows = Table("class", "step", "value", "gain", "interval", title="What helps patients it was not chosen on")
        for kept in found.kept:
            value = " : ".join(f"{each:g}" for each in kept.value) if isinstance(kept.value, tuple) else str(kept.value)
            cells = (escape(kept.name), kept.kind, value, f"{kept.effect:+.4f} {kept.measure}")
            rows.add_row(*cells, f"{kept.low:+.4f} to {kept.high:+.4f}")
        console.print(rows)
        console.print(f"{len(found.kept)} of {len(found.tried)} steps are kept; the intervals hold together at 95 %.")
        if any(kept.kind == "weights" for kept in found.kept):
            teams = " : ".join(" ".join(map(str, of)) for of in found.members)
            console.print(f"Weights are those of {teams}.", highlight=False, soft_wrap=True, markup=False)
        if all(kept.kind == LOSS for kept in found.kept):
            console.print("Temperatures move labels only where probabilities of several runs are averaged.")
    else:
        console.print(f"None of {len(found.tried)} steps helps beyond chance; the file does nothing.")
    for kind in dict.fromkeys(each.kind for each in found.tried):
        others = [each for each in found.tried if each.kind == kind and not each.kept]
        if others:
            best = max(others, key=lambda each: each.effect)
            told = f"{best.name}, {best.effect:+.4f} {best.measure} ({best.low:+.4f} to {best.high:+.4f})"
            console.print(
                f"  {kind}: not kept for {len(others)}, of which {told} is best", highlight=False, soft_wrap=True
            )
    console.print("All of it, on patients it was not fitted on (95 % interval over patients):")
    for effect in found.effects:
        told = f"{effect.measure} {effect.before:.4f} -> {effect.after:.4f}"
        if effect.low is not None:
            told += f", gain {effect.gain:+.4f} ({effect.low:+.4f} to {effect.high:+.4f})"
        console.print(f"  {told}", highlight=False)
    console.print(f"{found.images} images of {found.patients} patients -> {out}", highlight=False, soft_wrap=True)
    if found.kept:
        then = ["carpus", "predict", *map(str, run), "--images", "DIR", "--out", "sub.csv", *flags]
        told = shlex.join([*then, "--calibration", str(out)])
        console.print(f"next: {told}", highlight=False, soft_wrap=True, markup=False)


@app.command(rich_help_panel="Predict and measure")
def export(
    run: RunArgument,
    onnx: Annotated[Path, typer.Option("--onnx", help="The .onnx file to write.")],
) -> None:
    """Write a run as ONNX, for programs without torch; it is kept only if it gives what torch gives.

    `carpus export RUN --onnx model.onnx`. Input: `images`, (batch, 1, side, side) float32, grey values 0 to 1; output:
    `logits` at the network's stride. docs/prediction.md shows how to make masks of them.
    """
    from carpus import export
    from carpus import run as runs

    made = export.export(runs.read(run), onnx)
    sizes = f"any side that {made.multiple} divides"
    if made.fixed_because is not None:
        sizes = f"sides of {made.image_size} only (with other sides {made.fixed_because})"
    console.print(
        f"{onnx}: any batch, {sizes}; logits differ from torch's by {made.difference:.0e} of the largest",
        highlight=False,
        soft_wrap=True,
    )
