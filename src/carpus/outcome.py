"""What a training leaves in its run folder besides weights: the learning curve, the manifest, the report."""

import statistics
from pathlib import Path
from typing import Any

import pandas

from carpus import config, evaluate, models, report, run
from carpus.formats import files
from carpus.job import Job
from carpus.progress import Step
from carpus.state import State, Store


def write_metrics(out: Path, rows: list[Step]) -> None:
    """Write metrics.csv anew: all rows or those of before."""
    if rows:
        with files.atomic(out / run.METRICS) as temporary:
            pandas.DataFrame(rows).to_csv(temporary, index=False)


def finish(out: Path, job: Job, state: State, *, root: Path, about: dict[str, Any]) -> None:
    """Write the report and then the manifest, which makes the folder a finished run.

    Args:
        out: the run folder.
        job: what was trained.
        state: after the last step.
        root: the data folder.
        about: what else the manifest shall say.
    """
    options = job.settings.train
    facts = {
        "seed": options.seed,
        "data": {"path": str(root.resolve()), **job.fingerprints},
        "train_patients": sorted({case.patient for case in job.learn}),
        "val_patients": sorted({case.patient for case in job.held_out}),
        "start": job.start.seen.as_json(),
        "start_images": sorted(job.start.images),
        "start_sha256": job.start_sha256,
        "pseudo": _pseudo(job),
        # Of what predicts: auxiliary heads are dropped then.
        "parameters": models.parameters(job.network) - models.parameters(job.network.aux),
        "steps": state.step,
        "stopped_early": state.step < options.steps,
        "skipped_steps": state.skipped,
        **about,
        "seconds": round(sum(state.seconds.values()), 1),
        "seconds_by_phase": {name: round(value, 1) for name, value in state.seconds.items()},
        "peak_mib_by_phase": {name: round(value) for name, value in state.peak_mib.items()},
        "images_per_second": round(statistics.median(row.images_per_second for row in state.rows), 2),
        "val_dice": val_dice(state, options),
        "weights": kept(state, options),
    }
    Store(out / run.STATE).finish(state.kept)
    write_report(out, job, facts)
    run.finish(out, classes=job.classes, **facts)


def _pseudo(job: Job) -> dict[str, Any] | None:
    """The images whose labels were predictions, and the patients that these labels tell about."""
    if job.pseudo is None:
        return None
    content = job.pseudo.content
    return {
        "root": str(job.pseudo.root.resolve()),
        "sources": [{name: source[name] for name in ("kind", "sha256")} for source in content["sources"]],
        "seen": job.pseudo.seen.as_json(),
        "quality": content["quality"],
        "kept": content["kept"],
        "images": job.pseudo.images,
    }


def kept(state: State, options: config.Train) -> dict[str, Any]:
    """Which weights weights.safetensors holds, and whether the validation patients had a say in it."""
    chosen = options.keep == "best"
    by_validation = chosen or state.step < options.steps  # or they ended the training
    content: dict[str, Any] = {
        "kept": options.keep,
        "step": state.best_step if chosen else state.step,
        "averaged": options.ema > 0,
        "chosen_by_validation": by_validation,
    }
    if by_validation:
        content["note"] = "the validation patients chose this step, so their Dice is optimistic"
    return content


def val_dice(state: State, options: config.Train) -> float:
    """Mean Dice of the validation patients with the weights that were kept."""
    last = state.best if options.keep == "best" else state.rows[-1].val_dice
    assert last is not None  # a validation follows the last step
    return last


def write_report(out: Path, job: Job, facts: dict[str, Any]) -> None:
    """RUN/report.html: scores, curves and how to repeat the run, without pictures."""
    settings = job.settings
    chosen = facts["weights"].get("note")
    lead = (
        f"{settings.model.name} with a {settings.model.encoder} encoder, {facts['steps']} steps of "
        f"{settings.train.batch_size} images of {facts['data']['path']}."
    )
    report.write(
        out / run.REPORT,
        title=f"Run {out.name}",
        lead=f"{lead} Weights of step {facts['weights']['step']}: {chosen}." if chosen else lead,
        scores=evaluate.load(out),
        metrics=pandas.read_csv(out / run.METRICS),
        facts={
            **{f"Seconds, {name}": value for name, value in facts["seconds_by_phase"].items()},
            **{f"Peak MiB, {name}": value for name, value in facts["peak_mib_by_phase"].items()},
            "Seed": settings.train.seed,
            **run.versions(),
        },
        classes=job.classes,
    )
