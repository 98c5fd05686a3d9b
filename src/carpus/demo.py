"""The main job from end to end on made-up data: phantom, train, evaluate, predict, score, report.

::

    OUT/data/            synthetic radiographs in the competition's layout
    OUT/run/             the trained network, its scores and learning curve
    OUT/submission.csv   the test images, segmented
    OUT/report.html      what came of it
"""

import time
from collections.abc import Sequence
from pathlib import Path

import pandas
from rich.console import Console

from carpus import competition, config, data, evaluate, phantom, report, run, segment, train
from carpus.data import Case
from carpus.errors import DataError
from carpus.formats import files, images, trees
from carpus.labels import BONES, LabelMap
from carpus.progress import bar, training_bar

MADE = ("report.html", "submission.csv", "run", "data")
"""What the demo leaves, last to be made first."""

MARK = ".demo"
"""A file that tells a folder of an earlier demo, which may be replaced, from one with somebody's data in it."""

Maps = dict[tuple[str, str], tuple[Case, LabelMap, LabelMap]]
"""(split, case name) -> case, truth, prediction."""


def demo(
    out: Path,
    *,
    seed: int = 0,
    overwrite: bool = False,
    console: Console,
    patients: int = 80,
    test_patients: int = 20,
    size: int = 512,
    overrides: Sequence[str] = (),
) -> None:
    """Run the demo into `out` and print what was made, the score and what to try next.

    Args:
        out: the folder to make.
        seed: decides the data and the training.
        overwrite: replace what an earlier demo left, once all is made anew.
        console: where to print.
        patients: training patients, two hands each.
        test_patients: test patients.
        size: side of the radiographs in pixels.
        overrides: settings other than the recipe's, as of ``--set``.

    Raises:
        DataError: `out` holds something and `overwrite` is off, or something that no demo made.
    """
    present = [name for name in MADE if (out / name).exists()]
    if present and not overwrite:
        raise DataError(f"{out}: already holds {present[0]}; name another folder with --out, or pass --overwrite")
    if present and not (out / MARK).is_file():
        raise DataError(f"{out}: holds {present[0]} that no demo made; name another folder with --out")
    with trees.aside(out, MADE):
        files.write_text(out / MARK, "What `carpus demo --overwrite` may replace: it made all that lies here.\n")
        _make(out, seed, console, patients, test_patients, size, overrides)


def _make(
    out: Path, seed: int, console: Console, patients: int, test_patients: int, size: int, overrides: Sequence[str]
) -> None:
    page, submission, run_path, root = (out / name for name in MADE)
    started = time.perf_counter()

    def told(step: str) -> None:
        console.print(f"[bold]{step}[/]  [dim]{time.perf_counter() - started:.0f} s[/]", highlight=False)

    told(f"1/5 making radiographs of {patients + test_patients} patients")
    with bar("phantom") as progress:
        phantom.write(root, patients=patients, test_patients=test_patients, size=size, seed=seed, progress=progress)
    settings = config.load(["demo"], [f"train.seed={seed}", *overrides])
    told(f"2/5 training a network for {settings.train.steps} steps")
    with training_bar(settings.train.steps) as watch:
        train.train(settings, root, run_path, watch=watch)
    told("3/5 scoring validation and test patients")
    maps: Maps = {}
    trained, dataset = run.read(run_path), data.read(root)
    for split in ("val", "test"):

        def keep(case: Case, truth: LabelMap, found: LabelMap, split: str = split) -> None:
            maps[split, case.name] = case, truth, found

        with bar(split) as progress:
            evaluate.evaluate([trained], dataset, split, progress=progress, keep=keep)
    told("4/5 writing the submission")
    with bar("predict") as progress:
        segment.segment([trained], root / "test" / "DCM", submission, progress=progress)
    result = competition.score(submission, root)
    told("5/5 writing the report")
    _report(page, dataset, trained, maps, result, seed, _next(out))
    told("done")
    console.print(result)
    console.print(f"report  [bold]{page}[/]\nrun     {run_path}\nsubmission  {submission}\n\nnext:", highlight=False)
    for command in _next(out):
        console.print(f"  {command}", highlight=False, soft_wrap=True)


def _report(
    page: Path,
    dataset: data.Dataset,
    trained: run.Run,
    maps: Maps,
    result: competition.Score,
    seed: int,
    commands: Sequence[str],
) -> None:
    scores = evaluate.load(trained.path)
    shown = []
    for split, chosen in report.choose(scores).items():
        for name in chosen:
            case, truth, found = maps[split, name]
            shown.append(report.Pictured(name, split, images.read(case.image), truth, found))
    settings, manifest = trained.settings, trained.manifest
    report.write(
        page,
        title="Carpus demo",
        lead=f"A U-Net with a {settings.model.encoder} encoder, trained for {manifest['seconds']:.0f} s on synthetic "
        f"radiographs of {len(manifest['train_patients'])} patients, seen at {settings.data.image_size} pixels.",
        scores=scores,
        summary={part.capitalize(): mean for part in ("public", "private") if (mean := result.mean(part)) is not None},
        metrics=pandas.read_csv(trained.path / run.METRICS),
        axes=_axes(dataset, trained),
        pictures=shown,
        facts={"Command": f"carpus demo --seed {seed}", "Seed": seed, **run.versions()},
        commands=commands,
    )


def _axes(dataset: data.Dataset, trained: run.Run) -> pandas.DataFrame:
    held_out = set(trained.manifest["val_patients"])
    rows = [
        (case.name, split, phantom.anatomy.hand_axis_deg(data.read_labels(case), BONES))
        for cases, name in ((dataset.train, "train"), (dataset.test, "test"))
        for case in cases
        if case.annotation
        for split in (["val"] if case.patient in held_out else [name])
    ]
    return pandas.DataFrame(rows, columns=["case", "split", "axis_deg"])


def _next(out: Path) -> list[str]:
    return [
        f"carpus check {out}/data  # what is wrong with a data set",
        f"carpus evaluate {out}/run --data {out}/data --split test  # Dice by class",
        f"carpus predict {out}/run --images {out}/data/test/DCM --out {out}/labels  # annotations instead of a CSV",
        f"carpus train demo --data {out}/data --out {out}/run2 --set train.loss='{{dice: 1}}'  # another loss",
    ]
