"""The command `carpus`: one subcommand a verb. Heavy libraries load inside the commands, so that help is instant."""

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from rich.console import Console
from rich.markup import escape

from carpus import cli_view
from carpus.errors import CapacityError, ConfigError, DataError, DataWarning, DivergedError, StoppedError
from carpus.progress import bar, stderr, training_bar

console = Console()


class _Commands(typer.core.TyperGroup):
    """Turns what a command raises into one line and an exit status: 2 for the input, 1 for a fault."""

    def invoke(self, ctx: Any) -> Any:
        warnings.showwarning = _show_warning
        warnings.simplefilter("error" if ctx.params["strict"] else "always", DataWarning)
        try:
            return super().invoke(ctx)
        except (DataError, ConfigError, DataWarning) as error:
            _fail(ctx, "error", error, 2)
        except KeyboardInterrupt:
            stderr.print("stopped")
            raise typer.Exit(130) from None
        except StoppedError as error:
            if _leads():
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


def _leads() -> bool:
    """Whether this is the one of the processes of torchrun, SLURM or Fabric that reports what all came to."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"))


def _fail(ctx: Any, kind: str, error: Exception, status: int) -> None:
    if ctx.params["debug"]:
        raise error
    stderr.print(f"[bold red]{kind}:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
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


RecipeArgument = Annotated[
    list[str],
    typer.Argument(metavar="RECIPE...", help="YAML files or names of recipes that come along; later ones win."),
]
DataOption = Annotated[Path, typer.Option("--data", help="Data folder with train/DCM and train/outputs_json.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of `carpus train`.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ClassesOption = Annotated[
    Path | None, typer.Option("--classes", help="JSON file with another class list than the 29 bones.")
]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to make: data/, run/, report.html, submission.csv.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Decides data and training.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo.")] = False,
) -> None:
    """The main job from end to end, on made-up data: phantom, train, evaluate, predict, report."""
    from carpus import demo

    demo.demo(out, seed=seed, overwrite=overwrite, console=console)


@app.command()
def train(
    recipe: Annotated[
        list[str] | None,
        typer.Argument(metavar="RECIPE...", help="YAML files or names of recipes that come along; later ones win."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Data folder with train/DCM and train/outputs_json.")
    ] = None,
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
    from carpus import config

    chosen = config.load(recipe, settings or [])
    if plan:
        from carpus import plan as plans

        console.print(str(plans.plan(chosen, data)), highlight=False, soft_wrap=True)
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
    if _leads():
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
    if not _leads():
        return
    schedule = runs.read(out).manifest["continued"]["schedule"]
    console.print(f"{run} -> {out}, schedule {schedule}", highlight=False, soft_wrap=True)
    _trained(out, root, dice)


def _trained(out: Path, data: Path, dice: float) -> None:
    console.print(f"mean Dice of the validation patients [bold]{dice:.4f}[/]")
    known = (data / "test_labels").is_dir()
    then = f"evaluate {out} --data {data} --split test" if known else f"predict {out} --images DIR --out sub.csv"
    console.print(f"next: carpus {then}", highlight=False, soft_wrap=True)


BlendOption = Annotated[
    str, typer.Option(help="What several runs give together: the mean of probabilities or of logits, or votes.")
]
WeightOption = Annotated[
    list[float] | None, typer.Option("--weight", help="What a run counts; once for every run, in their order.")
]
TileOption = Annotated[
    int | None, typer.Option(help="Side of sliding windows in pixels of the canvas; the whole canvas if not given.")
]
OverlapOption = Annotated[float, typer.Option(help="Share that neighbouring windows have in common.")]
MarginOption = Annotated[int, typer.Option(help="Pixels along a window's inner edges that count nothing.")]
CanvasOption = Annotated[
    int | None, typer.Option(help="Side the image is resized to; what the run was trained with if not given.")
]
FlipOption = Annotated[bool, typer.Option("--flip", help="Look at the mirrored image, too.")]
TurnOption = Annotated[list[float] | None, typer.Option("--turn", help="Turned by so many degrees, too; repeatable.")]
ScaleOption = Annotated[list[float] | None, typer.Option("--scale", help="At so many times the side; repeatable.")]
BatchOption = Annotated[int, typer.Option(min=1, help="Windows shown to the network at once.")]
CalibrationOption = Annotated[Path | None, typer.Option(help="What `carpus calibrate` wrote.")]


@app.command()
def evaluate(
    run: RunArgument,
    data: DataOption,
    split: Annotated[
        str, typer.Option(help="val: the patients the run held out; test: those with known truth.")
    ] = "val",
    report: Annotated[
        Path | None, typer.Option(help="HTML page to write: pictures of the worst, all metrics, pose, confusions.")
    ] = None,
    device: DeviceOption = "auto",
    canvas: CanvasOption = None,
    tile: TileOption = None,
    overlap: OverlapOption = 0.5,
    margin: MarginOption = 0,
    batch: BatchOption = 1,
    flip: FlipOption = False,
    turn: TurnOption = None,
    scale: ScaleOption = None,
    calibration: CalibrationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Dice, IoU, surface Dice and HD95 of a run at the labels' own resolution, by class and by kind of image.

    `carpus evaluate RUN --data DATA --split test --report page.html`. All values go into RUN/scores.csv, a row a case,
    class and metric; docs/prediction.md says how they are defined.
    """
    from rich import box
    from rich.table import Table

    from carpus import assess, evaluate
    from carpus import run as runs

    options = _options("probabilities", canvas, tile, overlap, margin, batch, flip, turn, scale)
    with bar("evaluate") as progress:
        table, listings = assess.assess(
            run, data, split, report, device=device, options=options, calibration=calibration, progress=progress
        )
    trained = runs.read(run)
    summary = evaluate.summary(table, trained.classes)
    note = trained.manifest.get("weights", {}).get("note") if split == "val" else None
    if note:
        stderr.print(f"note: {note}", highlight=False, soft_wrap=True)
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
                rows.add_column(escape(name), justify="right", width=max(longest, (len(name) + 3) // 2))
            else:
                rows.add_column(escape(name), min_width=longest)
        for row in listing.rows:
            rows.add_row(*map(escape, row))
        console.print(rows)


@app.command()
def predict(
    context: typer.Context,
    run: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders of `carpus train`.")],
    images: Annotated[Path, typer.Option(help="An image (PNG, JPEG, BMP, TIFF, DICOM) or a folder of them.")],
    out: Annotated[Path, typer.Option(help="sub.csv: a submission; x.json: COCO; a folder: annotations.")],
    to: Annotated[
        str | None, typer.Option(help="Format of OUT where its name does not tell; see `carpus convert`.")
    ] = None,
    device: DeviceOption = "auto",
    blend: BlendOption = "probabilities",
    weight: WeightOption = None,
    canvas: CanvasOption = None,
    tile: TileOption = None,
    overlap: OverlapOption = 0.5,
    margin: MarginOption = 0,
    batch: BatchOption = 1,
    flip: FlipOption = False,
    turn: TurnOption = None,
    scale: ScaleOption = None,
    calibration: CalibrationOption = None,
    overlays: Annotated[Path | None, typer.Option(help="Folder for pictures with the outlines drawn in.")] = None,
    probabilities: Annotated[Path | None, typer.Option(help="Folder for probabilities, an .npz an image.")] = None,
) -> None:
    """Segment images with a trained run, or with several as an ensemble.

    `carpus predict RUN --images DIR --out sub.csv`; interrupted, the same command goes on where it stopped.

    `carpus predict RUN1 RUN2 RUN3 --images DIR --out sub.csv --flip --tile 512` for the last thousandth.

    An image that cannot be read is left out and named, and the exit status is 2; `carpus --strict predict` stops at it.
    """
    from carpus import run as runs
    from carpus import segment
    from carpus.postprocess import Calibration

    opened = [runs.read(path) for path in run]
    with bar("predict") as progress:
        summary = segment.segment(
            opened,
            images,
            out,
            device=device,
            options=_options(blend, canvas, tile, overlap, margin, batch, flip, turn, scale),
            weights=weight or None,
            calibration=Calibration.read(calibration, opened[0].classes) if calibration else None,
            beside=segment.Beside(overlays, probabilities),
            target_format=to,
            strict=context.find_root().params["strict"],
            progress=progress,
        )
    told = f", {summary.continued} of them from before" if summary.continued else ""
    console.print(f"{summary.images} images -> {out}{told}", highlight=False, soft_wrap=True)
    for fault in summary.faults:
        stderr.print(f"[bold red]left out:[/] {escape(str(fault))}", soft_wrap=True, highlight=False)
    if summary.faults:
        raise typer.Exit(2)


@app.command()
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
    as_json: JsonOption = False,
) -> None:
    """Score a submission as the competition does: mean Dice, by class, Val / Public / Private."""
    from carpus import competition
    from carpus.labels import class_list

    with bar("score") as progress:
        result = competition.score(
            prediction, truth, classes=class_list(classes), size=_size(size), public_ids=public_ids, progress=progress
        )
    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=2))
    else:
        console.print(result)


@app.command()
def ensemble(
    submissions: Annotated[list[Path], typer.Argument(metavar="CSV...", help="Two or more submissions.")],
    out: Annotated[Path, typer.Option(help="The submission to write.")],
    size: Annotated[str, typer.Option(help="HxW of the images.")] = "2048x2048",
    weight: Annotated[
        list[float] | None, typer.Option("--weight", help="Votes of a submission; once for every one, in their order.")
    ] = None,
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
            size=_size(size) or (0, 0),
            weights=weight or None,
            share=share,
            classes=class_list(classes),
            progress=progress,
        )
    console.print(f"{count} images of {len(submissions)} submissions -> {out}", highlight=False, soft_wrap=True)


@app.command()
def calibrate(
    run: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs with different validation folds.")],
    data: DataOption,
    out: Annotated[Path, typer.Option(help="JSON file for `carpus predict --calibration`.")],
    device: DeviceOption = "auto",
    canvas: CanvasOption = None,
    tile: TileOption = None,
    overlap: OverlapOption = 0.5,
    margin: MarginOption = 0,
    batch: BatchOption = 1,
    flip: FlipOption = False,
    turn: TurnOption = None,
    scale: ScaleOption = None,
) -> None:
    """Find the thresholds and repairs of shape that help, class by class, on patients the runs held out.

    `carpus calibrate FOLD0 FOLD1 FOLD2 FOLD3 FOLD4 --data DATA --out calibration.json`. Each patient is predicted by
    the run that never saw it. A step is kept only if it helps patients it was not chosen on, beyond chance.
    """
    from rich.table import Table

    from carpus import calibrate
    from carpus import run as runs

    options = _options("probabilities", canvas, tile, overlap, margin, batch, flip, turn, scale)
    opened = [runs.read(path) for path in run]
    with bar("calibrate") as progress:
        found = calibrate.calibrate(opened, data, out, device=device, options=options, progress=progress)
    if found.kept:
        rows = Table("class", "step", "value", "Dice", "interval", title="What helps")
        for kept in found.kept:
            cells = (escape(kept.name), kept.kind, f"{kept.value}", f"{kept.effect:+.4f}")
            rows.add_row(*cells, f"{kept.low:+.4f} to {kept.high:+.4f}")
        console.print(rows)
    else:
        console.print("No step helps beyond chance; the file does nothing.")
    told = f"{found.effect:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
    console.print(f"{found.images} images of {found.patients} patients: Dice {told} -> {out}", highlight=False)


@app.command()
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
    sizes = "any side that 32 divides" if made.dynamic else f"sides of {made.image_size} only"
    console.print(
        f"{onnx}: any batch, {sizes}; logits differ from torch's by {made.difference:.0e} of the largest",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
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
            size=_size(size),
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


def _options(
    blend: str,
    canvas: int | None,
    tile: int | None,
    overlap: float,
    margin: int,
    batch: int,
    flip: bool,
    turn: list[float] | None,
    scale: list[float] | None,
) -> Any:
    from carpus.predict import Options
    from carpus.tiles import Tiles
    from carpus.views import views

    tiles = Tiles(tile, overlap, margin) if tile is not None else None
    seen = views(flip=flip, turns_deg=turn or (), scales=scale or ())
    return Options(canvas, tiles, seen, blend, batch)  # type: ignore[arg-type]


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise ConfigError(f"--size {text}: expected HxW in pixels, as in 2048x2048")
    return int(height), int(width)


app.command()(cli_view.view)


def main() -> None:
    """Entry point of the command."""
    # As Ctrl-C does, so that what is half made is taken away.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    app()


if __name__ == "__main__":
    sys.exit(main())
