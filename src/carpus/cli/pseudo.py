"""`carpus pseudo`."""

from pathlib import Path
from typing import Annotated

import typer

from carpus.cli.options import CalibrationOption, ClassesOption, DeviceOption, FlipOption
from carpus.cli.shell import app, console
from carpus.progress import bar

SHOWN = 8
"""Classes that are listed, the least kept first."""


@app.command(rich_help_panel="Predict and measure")
def pseudo(
    predictions: Annotated[
        list[Path], typer.Argument(metavar="PREDICTIONS...", help="Submission CSVs and run folders; several vote.")
    ],
    images: Annotated[Path, typer.Option(help="Folder of the images to label, such as DATA/test/DCM.")],
    out: Annotated[Path, typer.Option(help="Folder to make: a training folder with provenance.")],
    student: Annotated[
        Path | None, typer.Option(metavar="RUN", help="A run without pseudo-labels, to compare them with.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Data folder of the runs; where they were trained if not given.")
    ] = None,
    seen: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Patients that made the CSVs' networks or local weights, one a line; or `nobody`."
        ),
    ] = None,
    calibration: CalibrationOption = None,
    flip: FlipOption = False,
    no_band: Annotated[bool, typer.Option("--no-band", help="Let pixels count in which the members disagree.")] = False,
    soft: Annotated[
        bool, typer.Option("--soft", help="Also write the runs' mean probabilities, for data.pseudo.soft.")
    ] = False,
    device: DeviceOption = "auto",
    classes: ClassesOption = None,
) -> None:
    """Make predictions a training folder, with what is to be believed of it: `carpus pseudo a.csv b.csv c.csv --images
    DATA/test/DCM --out DATA2`.

    `carpus pseudo FOLD0 OTHER0 --images DATA/test/DCM --out DATA2 --student FOLD0` measures out of fold, tunes limits
    there, and says whether the labels are worth it. Then train with `--set data.pseudo.root=DATA2`.
    """
    from rich.markup import escape
    from rich.table import Table

    from carpus.labels import class_list
    from carpus.predict import Options
    from carpus.pseudo import make
    from carpus.pseudo.sources import patients
    from carpus.views import views

    choices = make.Choices(
        band=not no_band,
        soft=soft,
        device=device,
        options=Options(views=views(flip=flip)),
        calibration=calibration,
        seen=None if seen is None else patients(seen),
        student=student,
        truth=data,
    )
    with bar("pseudo") as progress:
        found = make.make(
            predictions,
            images,
            out,
            classes=class_list(classes),
            choices=choices,
            progress=lambda _, done, total: progress(done, total),
        )
    least = sorted((share, name) for name, share in found.by_class.items() if share < 1)[:SHOWN]
    if least:
        rows = Table("class", "kept", title="Kept least")
        for share, name in least:
            rows.add_row(escape(name), f"{share:.1%}")
        console.print(rows)
    reasons = ", ".join(f"{count} {reason}" for reason, count in found.reasons.most_common()) or "none"
    lines = [
        f"{found.images} images -> {out}",
        f"{found.kept} of {found.bones} bones kept; left out: {reasons}; pixels in doubt {found.doubtful:.2%}",
        found.provenance.advice(),
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
