"""The tables of arms, every cell as text: HTML, Markdown, CSV, LaTeX and the terminal show the same."""

import math

import numpy as np

from carpus.pseudo import provenance
from carpus.report import Listing
from carpus.report.findings import plural
from carpus.study import budget
from carpus.study.judgement import Judgement
from carpus.study.report import cells, words
from carpus.study.results import Arm
from carpus.study.spec import Published, Study


def scores(judgement: Judgement, study: Study | None = None) -> Listing:
    """Dice of every arm on every split, mean and SD over seeds, next to the report's numbers."""
    arms = judgement.arms
    splits = [split for split in words.SPLITS if any(split in arm.splits() for arm in arms.values())]
    published = {name: study.arms[name].published for name in arms if study and name in study.arms}
    told = [
        split for split in ("val", "public", "private") if any(getattr(of, split, None) for of in published.values())
    ]
    rows = []
    for name, arm in arms.items():
        row = [name, *(cells.over_seeds(arm.mean([split])) for split in splits)]
        numbers = published.get(name) or Published()
        row += [cells.four(getattr(numbers, split)) for split in told]
        by_seed = arm.scores(judgement.splits)
        rows.append([*row, str(len(by_seed)), str(len(next(iter(by_seed.values()))) if by_seed else 0)])
    columns = ["Arm", *(words.SPLITS[split] for split in splits), *(f"Report: {words.SPLITS[split]}" for split in told)]
    about = "Mean Dice over classes, images of a patient, and patients; ± is the standard deviation over seeds."
    about += words.chosen_by_val(list(arms), arms)
    if told:
        about += " The report's numbers are of one run each, and of other images."
    return Listing("Scores", about, [*columns, "Seeds", "Patients"], rows)


def borders(judgement: Judgement) -> Listing:
    """Every arm by other metrics, its groups of classes and its worst class."""
    arms, splits = judgement.arms, judgement.splits
    groups = list(next(iter(arms.values())).classes.groups) if arms else []
    rows = []
    for name, arm in arms.items():
        tables = list(arm.scores(splits).values())
        if not tables:
            continue
        by_class = np.mean([table.to_numpy(np.float64).mean(axis=0) for table in tables], axis=0)
        worst = int(np.argmin(by_class))
        of_groups = [
            cells.four(float(np.mean([by_class[arm.classes.index(member)] for member in arm.classes.groups[group]])))
            for group in groups
        ]
        other = [
            cells.over_seeds(arm.mean(splits, metric), digits) for metric, (_, digits) in words.OTHER_METRICS.items()
        ]
        rows.append([name, *other, *of_groups, arm.classes.names[worst], cells.four(float(by_class[worst]))])
    columns = [
        "Arm",
        *(name for name, _ in words.OTHER_METRICS.values()),
        *(group.capitalize() for group in groups),
        "Worst class",
        "its Dice",
    ]
    about = (
        "NSD: the share of the border within 2 pixels of the other; HD95: the 95th percentile of border distances. "
        f"{words.MISSED_BONES}"
    )
    return Listing("Borders, groups and the worst class", about, columns, rows)


def labels(judgement: Judgement) -> Listing:
    """What was known of pseudo-labels before a run learnt from them; without rows where none did."""
    rows = []
    for name, arm in judgement.arms.items():
        for run in arm.runs:
            if pseudo := run.manifest.get("pseudo"):
                quality, selection = pseudo.get("quality"), not run.settings or run.settings.data.pseudo.selection
                shares = [pseudo.get("kept"), quality and quality["kept"]] if selection else [1.0, 1.0]
                kept = ["–" if share is None else f"{share:.0%}" for share in shares]
                rows.append([name, str(run.seed), *kept, provenance.advice(quality, selection=selection)])
    about = (
        "Kept: of the labels that were learnt from, and of those out of fold, whose quality is known. The rest counts "
        "neither as bone nor as background; without a selection all count."
    )
    columns = ["Arm", "Seed", "Kept", "Kept out of fold", "Measured"]
    return Listing("Pseudo-labels, before they were learnt from", about, columns, rows)


def costs(judgement: Judgement) -> Listing:
    """What every arm was given and what it took, means over its runs."""
    rows = []
    for name, arm in judgement.arms.items():
        given = budget.of(arm)
        peak = [max(of.values()) for outcome in arm.runs if (of := outcome.manifest.get("peak_mib_by_phase"))]
        rows.append(
            [
                name,
                cells.count(given.parameters / 1e6, " M", 1),
                cells.count(given.steps),
                cells.count(given.images_a_step),
                cells.count(given.image_size_px),
                cells.count(given.training_patients),
                cells.duration(arm.seconds),
                cells.count(arm.fact("images_per_second"), "", 1),
                cells.count(float(np.mean(peak)) if peak else math.nan, " MiB"),
                _device(arm),
            ]
        )
    columns = ["Arm", "Parameters", "Steps", "Images a step", "Side, px", "Patients", "Time a run", "Images/s", "Peak"]
    about = (
        "Steps and time are all that made the weights, those of the runs that an arm started from included; those of "
        "the teachers of pseudo-labels are not. Time is by the wall, with validations, on the device named, which may "
        "have been shared."
    )
    return Listing("Cost", about, [*columns, "Device"], rows)


def _device(arm: Arm) -> str:
    """Where the runs were trained, each device once."""
    names = []
    for outcome in arm.runs:
        machine = outcome.manifest.get("environment", {})
        used = outcome.manifest.get("device", "")
        gpus = machine.get("gpu") if "cuda" in str(used) or not used else None
        names.append(gpus[0] if gpus else f"CPU, {plural(machine.get('threads', 0), 'thread')}" if machine else "–")
    return ", ".join(dict.fromkeys(names))
