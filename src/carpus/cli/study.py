"""`carpus study`: several arms, seeds and folds as one experiment."""

import shlex
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carpus.cli.compare import DeviceOption, show
from carpus.cli.compare import table as show_listing
from carpus.cli.shell import app as carpus
from carpus.cli.shell import console
from carpus.errors import ConfigError, StoppedError, warn
from carpus.progress import bar, stderr

if TYPE_CHECKING:
    from carpus.study.conduct import Opened

app = typer.Typer(
    no_args_is_help=True,
    help="Find out which change to a method really helps: arms x seeds x folds, run and judged.",
)
carpus.add_typer(app, name="study", rich_help_panel="Compare methods")

_MADE = "<!-- carpus study report --published"
"""How what `--published --page` writes begins."""

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
    without: Annotated[
        list[str] | None, typer.Option("--without", help="All but this arm; may be given again.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs side by side; chosen if not given.")] = None,
    ray: Annotated[str | None, typer.Option("--ray", help="Run on a Ray cluster: auto, or its address.")] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            help="Object storage for finished runs: s3://bucket/folder, gs://…, file:///…. Any machine goes on from "
            "there, and nodes of a Ray cluster need not see OUT.",
        ),
    ] = None,
) -> None:
    """Train and score every arm with every seed and fold: `carpus study run 2_losses --scale quick --out DIR`.

    The same command goes on with a study that was interrupted, repeats nothing that is done, and tries again what
    failed. Exit status 1 if a run failed.
    """
    from carpus.study import conduct, spec, table, tasks
    from carpus.study.store import Store

    path = spec.find(study)
    chosen = spec.load(path)
    if scale not in ("full", "quick") or scale not in chosen.scales:
        raise ConfigError(f"--scale {scale}: expected one of {', '.join(chosen.scales)}")
    for option, names in (("--arm", arm or []), ("--without", without or [])):
        unknown = [name for name in names if name not in chosen.arms]
        if unknown:
            raise ConfigError(f"{option} {unknown[0]}: expected one of {', '.join(chosen.arms)}")
    size = chosen.scales[scale]
    arms = [name for name in arm or chosen.arms if name not in (without or [])]
    work = tasks.work(chosen, path, scale, seeds=seeds or size.seeds, folds=size.folds, arms=arms)
    if data is not None:
        conduct.require_fitting(work, data)
    shared = Store(store) if store is not None else None
    with conduct.claim(out):
        with bar("phantom") as progress:
            root = data or conduct.made_up(out, size, progress)
        conduct.begin(out, path, scale, root, work.rows, shared)
        if shared:
            with bar("store") as progress:
                shared.exchange(out, work.tasks, progress)

        def start() -> conduct.Executor:
            if ray is not None:
                from carpus.study.cluster import Cluster

                return Cluster(ray, root.resolve(), out.resolve(), shared)
            from carpus.report.findings import plural
            from carpus.study.local import Local, suited

            room, threads, gpus = suited(len(work.tasks), workers)
            stderr.print(f"{room} runs side by side, {plural(threads, 'thread')} each", highlight=False)
            return Local(root.resolve(), out.resolve(), workers=room, threads=threads, gpus=gpus, store=shared)

        try:
            with table.live(chosen.name, out, work.rows) as watch:
                now = conduct.conduct(work, out, start, watch)
        except (KeyboardInterrupt, SystemExit) as stop:
            number = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM
            raise StoppedError(
                f"{number.name}: stopped; what is finished stays, runs at work are saved, and the same command goes on",
                number,
            ) from None
    _show_standing(out)
    if now.failed:
        raise typer.Exit(1)


@app.command()
def status(out: OutArgument) -> None:
    """How far a study is, from its folder: `carpus study status DIR`, also while it runs elsewhere."""
    _show_standing(out)


@app.command()
def report(
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
    from carpus.report import require_place
    from carpus.study import conduct, gather, judge
    from carpus.study.report import page as pages
    from carpus.study.report import worst

    opened = conduct.open_(Path(out[0]))
    target = page or opened.out / "report.html"
    require_place(target)
    with bar("read") as progress:
        arms, notes = gather.of_study(opened, progress)
    for note in notes:
        warn(note)
    judgement = judge.judge(arms, opened.study.contrasts, margin=opened.study.margin, study=opened.study)
    if not judgement.judged:
        raise ConfigError(f"{out[0]}: no contrast has finished runs in both arms yet")
    show(judgement)
    cases = []
    if pictures:
        with bar("worst cases") as progress:
            cases = worst.collect(judgement, opened.root, device=device, progress=progress)
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


@app.command()
def plan(
    pilot: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PILOT...]",
            help="A folder of `carpus study run`, run folders as of `carpus compare`, or a study file or its name.",
        ),
    ] = None,
    effect: Annotated[float, typer.Option(min=1e-6, max=1, help="The true difference of Dice to find.")] = 0.001,
    contrasts: Annotated[
        int | None,
        typer.Option(min=1, help="How many, those also judged on Val twice; of PILOT if not given, else 1."),
    ] = None,
    patients: Annotated[
        int | None, typer.Option(min=5, help="How many there are; those of PILOT if not given, else 144.")
    ] = None,
    power: Annotated[float, typer.Option(min=0.05, max=0.999, help="The chance to find it.")] = 0.8,
    patient_sd: Annotated[
        float | None, typer.Option(min=0, help="SD of the paired difference over patients; without a pilot.")
    ] = None,
    seed_sd: Annotated[float | None, typer.Option(min=0, help="SD of a run's mean Dice over seeds.")] = None,
    residual_sd: Annotated[float | None, typer.Option(min=0, help="SD of one patient over seeds, beyond that.")] = None,
) -> None:
    """How many seeds and patients show a difference: `carpus study plan OUT --effect 0.001`.

    From a pilot (a study or some runs), or from assumed standard deviations: `carpus study plan --seed-sd 0.0007
    --patient-sd 0.006`; of a study that is still to be run, `carpus study plan 2_losses`.
    """
    from rich.table import Table

    from carpus.study import pilots, planning, stats

    with bar("read") as progress:
        known = pilots.read(pilot or [], progress)
    given = {"patient": patient_sd, "seed": seed_sd, "residual": residual_sd}
    chosen = {name: value for name, value in given.items() if value is not None}
    spread = replace(known.spread, **chosen)
    tests, patients = contrasts or known.tests, patients or known.patients
    level = stats.LEVEL / tests
    basis = known.basis
    if chosen:
        rest = ", ".join(name for name in given if name not in chosen)
        basis = f"{', '.join(chosen)} as given" + (f"; {rest} {known.basis}" if rest else "")
    console.print(
        f"SD over patients {spread.patient:.4f} (paired), over seeds {spread.seed:.4f}, rest (residual) "
        f"{spread.residual:.4f}: {basis}.",
        highlight=False,
    )
    seeds, alone = planning.alone(effect, spread, level, power)
    many = f"one of {tests} tests" if tests > 1 else "one contrast"
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


def _show_standing(out: Path) -> None:
    from rich.markup import escape

    from carpus.study import conduct, table, tasks

    opened = conduct.open_(out)
    now = table.standing(out, opened.rows)
    console.print(table.render(f"{opened.study.name}, {opened.scale}", out, opened.rows, now))
    first = {row.key: row for row in reversed(opened.rows)}
    for key, why in now.failed.items():
        row = first.get(key)
        which = f"{row.arm}, seed {row.seed}, fold {row.fold}" if row else key
        console.print(f"[red]failed[/] {escape(which)}: {escape(why)}", highlight=False, soft_wrap=True)
        told = [path for path in (tasks.note(out, key), tasks.log(out, key)) if path.is_file()]
        console.print(f"  {', '.join(map(str, told))}", markup=False, highlight=False, soft_wrap=True)


def _command(opened: "Opened") -> str:
    seeds = len({row.seed for row in opened.rows})
    made = opened.root == (opened.out / "data").resolve()
    arms = list(dict.fromkeys(row.arm for row in opened.rows))
    only = [word for arm in arms for word in ("--arm", arm)] if len(arms) < len(opened.study.arms) else []
    words = ["carpus", "study", "run", str(opened.source), "--scale", opened.scale, "--seeds", str(seeds), *only]
    return shlex.join([*words, *([] if made else ["--data", str(opened.root)]), "--out", str(opened.out)])


def _published(names: list[str], page: Path | None) -> None:
    from carpus.formats import files
    from carpus.study import published, spec
    from carpus.study.report import writers

    if page is not None:
        files.require_own(
            page, "such table", lambda path: path.is_file() and path.read_bytes().startswith(_MADE.encode())
        )
    # The scatter is estimated over all of the report, whatever is asked for.
    own = sorted(spec.STUDIES.glob("*.yaml"))
    chosen = [spec.find(name) for name in names] or own
    studies = [spec.load(path) for path in dict.fromkeys((*own, *chosen))]
    shown = [spec.load(path).name for path in chosen]
    found, apart = published.judge(studies)
    for study in studies:
        if study.name in shown and not any(each.study == study.name for each in found):
            raise ConfigError(f"{study.name}: no contrast of two arms with published numbers (arms: published)")
    listings = published.listings(
        [study for study in studies if study.name in shown], [each for each in found if each.study in shown], apart
    )
    for listing in listings:
        show_listing(listing)
    if page is not None:
        made = f"{_MADE} {' '.join([*names, '--page', str(page)])} -->"
        files.write_text(page, f"{made}\n" + "\n".join(map(writers.markdown, listings)))
