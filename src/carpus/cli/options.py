"""Arguments and options that several commands have, and what becomes of them."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carpus.errors import ConfigError
from carpus.precision import CHOICES

if TYPE_CHECKING:
    from carpus.ensemble import Weight
    from carpus.predict import Options

DATA = typer.Option("--data", help="Data folder with train/DCM and train/outputs_json.")
DataOption = Annotated[Path, DATA]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of `carpus train`.")]
RunsArgument = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders of `carpus train`.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ClassesOption = Annotated[
    Path | None, typer.Option("--classes", help="JSON file with another class list than the 29 bones.")
]

CalibrationOption = Annotated[Path | None, typer.Option(help="What `carpus calibrate` wrote.")]
WeightOption = Annotated[
    list[str] | None,
    typer.Option(
        "--weight",
        metavar="NUMBER|FILE",
        help="What a member counts, once for every one, in their order: a number, or a JSON file of numbers by class.",
    ),
]
FlipOption = Annotated[bool, typer.Option("--flip", help="Look at the mirrored image, too.")]


def _options(
    blend: Annotated[
        str, typer.Option(help="What answers give together: the mean of probabilities or of logits, or votes of runs.")
    ] = "probabilities",
    canvas: Annotated[
        int | None, typer.Option(help="Side the image is resized to; what the run was trained with if not given.")
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="Side of sliding windows in pixels of the canvas; the whole canvas if not given.")
    ] = None,
    overlap: Annotated[float, typer.Option(help="Share that neighbouring windows have in common.")] = 0.5,
    margin: Annotated[int, typer.Option(help="Pixels along a window's inner edges that count nothing.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Windows shown to the network at once.")] = 1,
    flip: FlipOption = False,
    turn: Annotated[
        list[float] | None, typer.Option("--turn", help="Turned by so many degrees, too; repeatable.")
    ] = None,
    scale: Annotated[list[float] | None, typer.Option("--scale", help="At so many times the side; repeatable.")] = None,
    weight: WeightOption = None,
    precision: Annotated[
        str | None,
        typer.Option(help=f"{CHOICES}; the run's own if not given, and then not alike on all machines."),
    ] = None,
) -> "Options":
    from carpus.predict import Options
    from carpus.tiles import Tiles
    from carpus.views import views

    if tile is None and (overlap != 0.5 or margin != 0):
        raise ConfigError("--overlap and --margin: are of sliding windows; give their side with --tile")
    tiles = Tiles(tile, overlap, margin) if tile is not None else None
    seen = views(flip=flip, turns_deg=turn or (), scales=scale or ())
    return Options(canvas, tiles, seen, blend, batch, weights(weight), precision)  # type: ignore[arg-type]


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say how images are shown to networks, in place of its parameter `options`.

    Args:
        command: takes `options` (`predict.Options`) by keyword, and, if it likes, `flags`, as they were typed.

    Returns:
        The command as Typer shall see it.
    """
    shown, own = inspect.signature(_options).parameters, inspect.signature(command)
    parameters: list[inspect.Parameter] = []
    for parameter in own.parameters.values():
        if parameter.name != "flags":
            here = shown.values() if parameter.name == "options" else (parameter,)
            parameters += (each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in here)

    @functools.wraps(command)
    def filled(**given: Any) -> None:
        looks = {name: given.pop(name) for name in shown}
        if "flags" in own.parameters:
            given["flags"] = [word for name, value in looks.items() if value != shown[name].default
                              for word in _typed(name, value)]  # fmt: skip
        command(**given, options=_options(**looks))

    filled.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    filled.__annotations__ = {each.name: each.annotation for each in parameters}
    return filled


def _typed(name: str, value: Any) -> list[str]:
    """An option as on a command line."""
    if value is True:
        return [f"--{name}"]
    return [word for each in (value if isinstance(value, list) else [value]) for word in (f"--{name}", f"{each}")]


def weights(given: list[str] | None) -> "tuple[Weight, ...]":
    """The values of --weight."""
    return tuple(map(_weight, given or ()))


def _weight(text: str) -> "Weight":
    from carpus.ensemble import FromFile
    from carpus.formats import files

    try:
        return float(text)
    except ValueError:
        by_class = files.read_json(Path(text))
    if not isinstance(by_class, dict) or not all(type(each) in (int, float) for each in by_class.values()):
        raise ConfigError(f'--weight {text}: expected numbers by class, as in {{"Lunate": 2}}')
    return FromFile(by_class, text)


def parsed_size(text: str | None) -> tuple[int, int] | None:
    """(H, W) from --size HxW, None without one."""
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise ConfigError(f"--size {text}: expected HxW in pixels, as in 2048x2048")
    return int(height), int(width)
