"""Arguments and options that several commands have, and what becomes of them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from carpus.errors import ConfigError

DataOption = Annotated[Path, typer.Option("--data", help="Data folder with train/DCM and train/outputs_json.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of `carpus train`.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ClassesOption = Annotated[
    Path | None, typer.Option("--classes", help="JSON file with another class list than the 29 bones.")
]

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


def looks(
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
    """`predict.Options` from the options of a command."""
    from carpus.predict import Options
    from carpus.tiles import Tiles
    from carpus.views import views

    tiles = Tiles(tile, overlap, margin) if tile is not None else None
    seen = views(flip=flip, turns_deg=turn or (), scales=scale or ())
    return Options(canvas, tiles, seen, blend, batch)  # type: ignore[arg-type]


def parsed_size(text: str | None) -> tuple[int, int] | None:
    """(H, W) from --size HxW, None without one."""
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise ConfigError(f"--size {text}: expected HxW in pixels, as in 2048x2048")
    return int(height), int(width)
