"""Finished studies whose scores are made up with a known truth: what a report may say of them can be checked."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

from carpus import config, evaluate, run
from carpus.formats import files
from carpus.labels import BONES, Classes
from carpus.study import spec, tasks
from carpus.study.stats import Spread

LIKE_OURS = Spread(patient=0.006, seed=0.0007, residual=0.003)


def scores(
    spread: Spread,
    *,
    seeds: int,
    patients: int,
    columns: int,
    effect: float = 0.0,
    random: int = 0,
    skewed: bool = False,
    correlation: float = 0.0,
    times: float = 1.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two arms (S, P, C); every column is a study of its own.

    The first is better by `effect`, and its seeds scatter `times` as far as the second's.
    """
    draw = np.random.default_rng(random)
    shape = (patients, columns)
    difference = (draw.gamma(0.5, 1, shape) - 0.5) / np.sqrt(0.5) if skewed else draw.standard_normal(shape)
    together = draw.standard_normal((seeds, 1, columns))

    def noise(times: float) -> NDArray[np.float64]:
        own = draw.standard_normal((seeds, 1, columns))
        seed = np.sqrt(correlation) * together + np.sqrt(1 - correlation) * own
        return times * spread.seed * seed + spread.residual * draw.standard_normal((seeds, *shape))

    return effect + spread.patient * difference + noise(times), noise(1.0)


def write_run(
    folder: Path,
    by_split: Mapping[str, pandas.DataFrame],
    *,
    settings: config.Config,
    classes: Classes = BONES,
    like: Path | None = None,
    **facts: Any,
) -> Path:
    """A finished run with these scores; with weights, if it is to be like another run."""
    folder.mkdir(parents=True)
    files.write_text(folder / run.CONFIG, config.dump(settings))
    steps = np.linspace(0, settings.train.steps, 7)[1:].round()
    first = next(iter(by_split.values()))
    best = float(first.loc[first["metric"] == "dice", "value"].mean())
    curve = pandas.DataFrame({"step": steps, "loss": np.exp(-steps / steps[-1]), "learning_rate": 0.01})
    curve = curve.assign(images_per_second=8.0, val_dice=best * (1 - np.exp(-4 * steps / steps[-1])))
    curve.to_csv(folder / run.METRICS, index=False)
    pandas.concat(by_split.values())[list(evaluate.COLUMNS)].to_csv(folder / run.SCORES, index=False)
    if like is not None:
        shutil.copy(like / run.WEIGHTS, folder / run.WEIGHTS)
        shutil.copy(like / run.CONFIG, folder / run.CONFIG)
    hashes = {
        name: files.sha256(folder / name)
        for name in (run.CONFIG, run.WEIGHTS, run.METRICS)
        if (folder / name).is_file()
    }
    manifest = {
        "environment": {"threads": 2},
        "seed": settings.train.seed,
        "data": {name: {"images": "0" * 64, "annotations": "1" * 64} for name in ("all", "val")},
        "train_patients": [f"ID{number:03}" for number in range(40)],
        "val_patients": [],
        "parameters": 12_506_301,
        "steps": settings.train.steps,
        "seconds": 60.0,
        "peak_mib_by_phase": {"train": 1449},
        "images_per_second": 8.0,
        "weights": {"chosen_by_validation": False},
        "classes": list(classes.names),
        "groups": {name: list(of) for name, of in classes.groups.items()},
        "files": hashes,
        **facts,
    }
    files.write_json(folder / run.MANIFEST, manifest)
    return folder


def graded_run(folder: Path, settings: config.Config, classes: Classes = BONES, **facts: Any) -> Path:
    """A finished run of two test patients, whose first class has a Dice of 0.1, the second 0.2 and so on to 0.9."""
    dice = np.tile(np.arange(len(classes)) % 9 / 10 + 0.1, (2, 1))
    of_test = table(dice, [("ID01/1", "ID01"), ("ID02/1", "ID02")], "test", classes)
    return write_run(folder, {"test": of_test}, settings=settings, classes=classes, **facts)


def table(values: NDArray[np.float64], cases: list[tuple[str, str]], split: str, classes: Classes) -> pandas.DataFrame:
    """Tidy rows of Dice (cases, K), and of NSD and HD95 that go with it."""
    rows = [
        (case, patient, split, name, metric, value)
        for (case, patient), of_case in zip(cases, values, strict=True)
        for name, dice in zip(classes, of_case.tolist(), strict=True)
        for metric, value in (("dice", dice), ("nsd_2px", dice**0.5), ("hd95_px", 40 * (1 - dice)))
    ]
    return pandas.DataFrame(rows, columns=list(evaluate.COLUMNS))


def write_study(
    out: Path,
    study: Path,
    effects: Mapping[str, float],
    *,
    seeds: int = 3,
    cases: Mapping[str, list[tuple[str, str]]],
    root: Path | None = None,
    like: Path | None = None,
    spread: Spread = LIKE_OURS,
    carpals: float = 1.0,
    skip: tuple[str, ...] = (),
    random: int = 0,
) -> Path:
    """The folder of a study whose arms differ from each other by known amounts.

    Args:
        out: the folder.
        study: the study file.
        effects: by arm, what it is better than 0.93 by; others have 0.
        seeds: of every arm.
        cases: by split, (case, patient) of every image.
        root: the data folder; none of its files is read here.
        like: a run whose weights and settings every run gets.
        spread: of the scores.
        carpals: how much of an effect the carpals have, the rest being spread over the others.
        skip: arms of which no run is finished.
        random: seed.
    """
    opened = spec.load(study)
    work = tasks.work(opened, study, "quick", seeds=seeds, folds=[0])
    files.write_text(out / tasks.COPY, study.read_text())
    conduct_rows = [vars(row) for row in work.rows]
    root = root or out / "data"
    files.write_json(out / tasks.INDEX, {"scale": "quick", "data": str(root), "runs": conduct_rows})
    draw = np.random.default_rng(random)
    names = sorted({patient for of in cases.values() for _, patient in of})
    hard = np.array([0.05 if name in BONES.groups["carpals"] else 0.0 for name in BONES])
    weight = np.where(hard > 0, carpals, 1.0)
    weight = weight / weight.mean()
    base = {name: 0.93 + 0.01 * draw.standard_normal() - hard + 0.01 * draw.standard_normal(29) for name in names}
    by_arm = {arm: spread.patient / np.sqrt(2) * draw.standard_normal(len(names)) for arm in opened.arms}
    for row in work.rows:
        folder = tasks.folder(out, row.key)
        if folder.exists() or row.arm in skip:
            continue
        seed = spread.seed * draw.standard_normal()
        shift = {name: by_arm[row.arm][place] for place, name in enumerate(names)}
        made = {}
        for split, of in cases.items():
            rows = [
                base[patient]
                + shift[patient]
                + effects.get(row.arm, 0.0) * weight
                + seed
                + spread.residual * draw.standard_normal()
                + 0.002 * draw.standard_normal(29)
                for _, patient in of
            ]
            made[split] = table(np.clip(rows, 0, 1), of, split, BONES)
        settings = work.tasks[row.key].settings
        write_run(
            folder,
            made,
            settings=settings,
            like=like,
            seconds=50.0 + 10 * (len(row.arm) % 5),
            steps=settings.train.steps,
        )
        tasks.finish(out, work.tasks[row.key])
    return out
