"""`carpus compare`, `carpus study report` and `carpus study plan`: what runs say, and how many are needed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carpus.cli.options import ClassesOption
from carpus.cli.shell import app, console
from carpus.cli.study import app as study
from carpus.errors import ConfigError
from carpus.progress import bar, stderr

if TYPE_CHECKING:
    from carpus.report import Listing
    from carpus.study.conduct import Opened
    from carpus.study.judge import Judgement
    from carpus.study.stats import Spread

OutOption = Annotated[
    Path | None, typer.Option("--report", help="HTML page to write, with tables/ and figures/ beside.")
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
    device: DeviceOption = "auto",
) -> None:
    """Compare runs or submissions, the first being the control: `carpus compare RUN_A RUN_B`.

    Runs that differ in seed and fold alone are one arm in several seeds; with one seed an arm the verdict is always
    "cannot tell". `carpus compare BCE=a0,a1,a2 Dice=b0,b1,b2 --report page.html`.
    """
    from carpus.labels import class_list
    from carpus.study import gather, judge
    from carpus.study.report import page, worst
    from carpus.study.spec import Contrast

    with bar("compare") as progress:
        found = gather.of_paths(arms, truth=truth, classes=class_list(classes), progress=progress)
    control, *others = found
    if not others:
        raise ConfigError(f"compare: all that was given is one arm, {control}; name them, as in A=RUN,RUN B=RUN,RUN")
    judgement = judge.judge(found, [Contrast(name, control) for name in others], margin=margin)
    _show(judgement)
    if report is not None:
        cases = []
        if truth is not None and truth.is_dir():
            with bar("worst cases") as progress:
                cases = worst.collect(judgement, truth, device=device, progress=progress)
        command = f"carpus compare {' '.join(arms)}" + (f" --truth {truth}" if truth else "")
        page.write(report, judgement, title=f"Against {control}", cases=cases, facts=page.facts(judgement, command))
        stderr.print(f"-> {report}", highlight=False, soft_wrap=True)


@study.command("report")
def study_report(
    out: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OUT", help="A folder of `carpus study run`; with --published, study files (all, if none)."
        ),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Judge the report's claims by the numbers it published, alone.")
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option("--page", help="The page to write; OUT/report.html if not given. With --published, Markdown."),
    ] = None,
    pictures: Annotated[bool, typer.Option(help="Predict the worst cases and show them.")] = True,
    device: DeviceOption = "auto",
) -> None:
    """Judge a study: `carpus study report OUT` writes OUT/report.html, OUT/tables/ and OUT/figures/.

    It may be called while the study runs, and tells what is missing. `carpus study report --published` needs no run:
    which of its conclusions can the competition report's own table carry?
    """
    if published:
        _published(out or [], page)
        return
    if not out or len(out) != 1:
        raise ConfigError("study report: expected one folder of `carpus study run`, or --published")
    from carpus.study import conduct, gather, judge
    from carpus.study.report import page as pages
    from carpus.study.report import worst

    opened = conduct.open_(Path(out[0]))
    with bar("read") as progress:
        arms, notes = gather.of_study(opened, progress)
    judgement = judge.judge(arms, opened.study.contrasts, margin=opened.study.margin, study=opened.study)
    if not judgement.judged:
        raise ConfigError(f"{out[0]}: no contrast has finished runs in both arms yet")
    _show(judgement)
    cases = []
    if pictures:
        with bar("worst cases") as progress:
            cases = worst.collect(judgement, opened.root, device=device, progress=progress)
    target = page or opened.out / "report.html"
    pages.write(
        target,
        judgement,
        title=opened.study.name,
        lead=f"{opened.study.question} {opened.study.about}".strip(),
        study=opened.study,
        cases=cases,
        facts=pages.facts(judgement, _command(opened), opened.path),
        notes=notes,
    )
    stderr.print(f"-> {target}", highlight=False, soft_wrap=True)


@study.command("plan")
def study_plan(
    pilot: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PILOT...]", help="A folder of `carpus study run`, or arms as of `carpus compare`."),
    ] = None,
    effect: Annotated[float, typer.Option(min=1e-6, max=1, help="The true difference of Dice to find.")] = 0.001,
    contrasts: Annotated[int, typer.Option(min=1, help="How many contrasts the study will have.")] = 1,
    patients: Annotated[int, typer.Option(min=5, help="How many there are.")] = 144,
    power: Annotated[float, typer.Option(min=0.05, max=0.999, help="The chance to find it.")] = 0.8,
    patient_sd: Annotated[
        float | None, typer.Option(min=0, help="SD of the paired difference over patients; without a pilot.")
    ] = None,
    seed_sd: Annotated[float | None, typer.Option(min=0, help="SD of a run's mean Dice over seeds.")] = None,
    residual_sd: Annotated[float | None, typer.Option(min=0, help="SD of one patient over seeds, beyond that.")] = None,
) -> None:
    """How many seeds and patients show a difference: `carpus study plan OUT --effect 0.001`.

    From a pilot (a study or some runs), or from assumed standard deviations: `carpus study plan --seed-sd 0.0007
    --patient-sd 0.006`.
    """
    from rich.table import Table

    from carpus.study import planning, stats

    spread, source = _spread(pilot or [])
    given = (patient_sd, seed_sd, residual_sd)
    values = (spread.patient, spread.seed, spread.residual)
    spread = stats.Spread(*(own if own is not None else known for own, known in zip(given, values, strict=True)))
    level = stats.LEVEL / contrasts
    console.print(
        f"SD over patients {spread.patient:.4f} (paired), over seeds {spread.seed:.4f}, rest {spread.residual:.4f}: "
        f"{source if None in given else 'as given'}.",
        highlight=False,
    )
    seeds, alone = planning.alone(effect, spread, level, power)
    many = f"one of {contrasts} contrasts" if contrasts > 1 else "one contrast"
    console.print(
        f"To find {effect:g} in {many} with power {power:g}: at least {seeds or 'thousands of'} seeds an arm, however "
        f"many patients, and at least {alone or 'countless'} patients, however many seeds. Together:",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name in ("seeds an arm", f"patients for {effect:g}", f"smallest difference found on {patients}"):
        table.add_column(name, justify="right")
    for number in (2, 3, 5, 8, 10, 12, 16, 20, 30, 50):
        needed = planning.patients(effect, number, spread, level, power)
        smallest = planning.detectable(planning.Design(number, patients), spread, level, power)
        table.add_row(str(number), f"{needed:,}" if needed else "–", f"{smallest:.4f}")
    console.print(table)


def _spread(pilot: list[str]) -> "tuple[Spread, str]":
    from carpus.labels import BONES
    from carpus.study import conduct, gather, judge, planning, tasks
    from carpus.study.spec import Contrast

    if not pilot:
        return planning.ASSUMED, "assumed, of a competition-sized study; a pilot tells better"
    with bar("read") as progress:
        if len(pilot) == 1 and (Path(pilot[0]) / tasks.INDEX).is_file():
            opened = conduct.open_(Path(pilot[0]))
            arms, _ = gather.of_study(opened, progress)
            pairs = list(opened.study.contrasts)
        else:
            arms = gather.of_paths(pilot, classes=BONES, progress=progress)
            control, *others = arms
            pairs = [Contrast(name, control) for name in others]
    judgement = judge.judge(arms, pairs)
    spread = planning.pooled([of for each in judgement.judged if (of := each.dice.spread()) is not None])
    if spread is None:
        raise ConfigError(f"{pilot[0]}: no contrast with two seeds an arm and five patients; give --seed-sd and so on")
    return spread, f"measured, over the contrasts of {pilot[0]}"


def _published(names: list[str], page: Path | None) -> None:

    from carpus.formats import files
    from carpus.study import published, spec
    from carpus.study.report import writers

    # The scatter is estimated over all of the report, whatever is asked for.
    own = sorted(spec.STUDIES.glob("*.yaml"))
    chosen = [spec.find(name) for name in names] or own
    studies = [spec.load(path) for path in dict.fromkeys((*own, *chosen))]
    shown = [spec.load(path).name for path in chosen]
    found, apart = published.judge(studies)
    listings = published.listings(
        [study for study in studies if study.name in shown], [each for each in found if each.study in shown], apart
    )
    for listing in listings:
        _table(listing)
    if page is not None:
        made = f"<!-- carpus study report --published {' '.join([*names, '--page', str(page)])} -->"
        files.write_text(page, f"{made}\n" + "\n".join(map(writers.markdown, listings)))


def _show(judgement: "Judgement") -> None:

    from carpus.study.report import tables

    for listing in (tables.scores(judgement), tables.short(judgement), tables.warnings(judgement)):
        if listing.rows:
            _table(listing)


def _table(listing: "Listing") -> None:
    from rich.markup import escape
    from rich.table import Table

    console.print(f"\n[bold]{escape(listing.title)}[/]", highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in listing.columns:
        table.add_column(escape(name))
    for row in listing.rows:
        table.add_row(*map(escape, row))
    console.print(table)
    console.print(f"[dim]{escape(listing.told)}[/]", highlight=False)


def _command(opened: "Opened") -> str:
    seeds = len({row.seed for row in opened.rows})
    made = opened.root == (opened.out / "data").resolve()
    data = "" if made else f" --data {opened.root}"
    return f"carpus study run {opened.path} --scale {opened.scale} --seeds {seeds}{data} --out {opened.out}"
