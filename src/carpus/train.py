"""The training loop: a recipe and a data set to a run folder, on one device or many, stopped and resumed at will.

Dimension key: B batch of one process, K classes, h w logit resolution.
"""

import math
import shutil
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from carpus import capacity, config, devices, evaluate, gates, outcome, run, schedule
from carpus.ema import Average
from carpus.errors import DataError, DivergedError, StoppedError
from carpus.formats import files
from carpus.job import Job, prepare
from carpus.models import rates, weights
from carpus.phases import Phases
from carpus.predict import network_input
from carpus.progress import Step
from carpus.state import Parts, State, Store
from carpus.stop import Stop, listening
from carpus.track import tracking

LOG_EVERY = 10
"""Steps that a row of metrics.csv sums up."""

Watch = Callable[[Step], object]


def train(
    settings: config.Config,
    root: Path,
    out: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    longer_than: run.Run | None = None,
    watch: Watch | None = None,
    tell: Callable[[str], object] | None = None,
) -> float:
    """Train one network and leave a run folder; go on where an interrupted training of the same stopped.

    Args:
        settings: the complete config.
        root: a data folder in the competition's layout.
        out: the run folder; new, or empty, or of the same run unfinished, or given up with `overwrite`.
        overwrite: replace a run that is there, once the new one is finished; see `run.claim`.
        resume: there must be something to go on with.
        longer_than: a finished run whose last state is the first of this one, see `lengthen`.
        watch: called after every step, in the first process.
        tell: called with a line for every gate that the network has passed, see `gates`; in the first process.

    Returns:
        Mean Dice of the validation patients at the labels' own resolution, with the weights that were kept.

    Raises:
        DataError: the data set cannot be read, leaks, or leaves a side of the split empty; or see `run.claim`.
        ConfigError: settings that contradict each other.
        DivergedError: a loss or gradient that is not a number; names step and images, and leaves the weights of the
            last validation, if there was one and no earlier run to come back.
        CapacityError: not enough memory; says what takes less.
        StoppedError: SIGTERM or Ctrl-C; the state is saved.
    """
    launcher = devices.training(settings.train)
    leads = launcher.is_global_zero  # the one process that writes
    phases = Phases()
    with capacity.explained(settings):
        with phases("prepare"):
            job = prepare(settings, root, launcher)
            passed = _gates(job, launcher, tell if leads else None)
        identity = job.identity() | {"processes": launcher.world_size}
        identity |= {"continued": _origin(longer_than)} if longer_than else {}
        claimed = run.claim(out, identity, overwrite=overwrite, resume=resume) if leads else nullcontext()
        with claimed, listening() as stop:
            state = _fit(job, launcher, out, phases, stop, longer_than, watch if leads else None)
            if leads:
                continued = {**_origin(longer_than), **_how(longer_than, settings)} if longer_than else None
                about = {"gates": passed, "processes": launcher.world_size, "continued": continued}
                outcome.finish(out, job, state, root=root, about=about)
    return outcome.val_dice(state, settings.train)


def lengthen(
    run_path: Path, steps: int, root: Path | None = None, out: Path | None = None, **options: Any
) -> tuple[Path, float]:
    """Train a finished run for longer, into a folder of its own.

    Where its schedule is a function of the step alone (see `schedule.lengthened`), the result is that of one run of so
    many steps, bit for bit; elsewhere the schedule starts anew, and the manifest says so.

    Args:
        run_path: a finished run.
        steps: in all, those of the finished run included.
        root: the data folder; None for where it was.
        out: the new run folder; None for the old one's name and the steps.
        options: as in `train`.

    Returns:
        The new run folder, and the Dice as `train` gives it.

    Raises:
        DataError: no such run, no state left in it, or other data.
        ConfigError: not more steps than it has, or a horizon before them.
    """
    earlier = run.read(run_path)
    fading = any(aux.final_weight is not None for aux in earlier.settings.model.aux)
    longer, _ = schedule.lengthened(earlier.settings.train, earlier.manifest["steps"], steps, fading=fading)
    out = out or run_path.with_name(f"{run_path.name}-{steps}")
    root = root or Path(earlier.manifest["data"]["path"])
    settings = earlier.settings.model_copy(update={"train": longer})
    return out, train(settings, root, out, longer_than=earlier, **options)


def _fit(
    job: Job,
    launcher: Fabric,
    out: Path,
    phases: Phases,
    stop: Stop,
    longer_than: run.Run | None,
    watch: Watch | None,
) -> State:
    """The loop itself, from where the last process left it; returns the state after the last step."""
    options, leads = job.settings.train, launcher.is_global_zero
    network, scaler = job.network, devices.scaler(launcher)
    # The fused optimizer unscales fp16 gradients itself, too late for clipping them.
    optimizer = torch.optim.AdamW(rates.groups(network, options), lr=options.learning_rate, fused=scaler is None)
    model, stepper = launcher.setup(devices.compiled(network) if options.compile else network, optimizer)
    parts = Parts(network, optimizer, Average(network, options.ema) if options.ema else None, scaler)
    store = Store(out / run.STATE)
    launcher.barrier()  # the first process has claimed the folder
    state = store.load(parts) or _inherit(longer_than, parts, out, leads) or State()
    state.go_on(phases.seconds, phases.peak_mib, run.versions())
    launcher.barrier()  # all have read what the first is about to replace
    if leads:
        files.write_text(out / run.CONFIG, config.dump(job.settings))
        outcome.write_metrics(out, state.rows)

    network.train()
    batches = job.batches.ahead(range(state.step, options.steps), job.settings.data.workers)
    with tracking(job.settings, out, state.step, leads) as tell, phases("train"):
        since, carried = time.perf_counter(), len(state.losses)  # losses of an earlier process took none of this time
        for step, batch in enumerate(batches, start=state.step + 1):
            if _enough(state, options):
                break
            rate = schedule.rate(step - 1, options)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            shares = network.loss_weights(schedule.progress(step - 1, options))

            losses = []
            for number, part in enumerate(batch.parts(options.accumulate), start=1):
                _seed(options.seed, step, launcher.global_rank, number)
                with devices.sync(launcher, model, at_last=number == options.accumulate):
                    logits, aux = model(network_input(part.images, launcher))  # (B, K, h, w) each
                    labels = launcher.to_device(part.labels)
                    loss = job.loss.of_outputs((logits, *aux), labels, shares) / options.accumulate
                    launcher.backward(loss)
                losses.append(loss.detach())
            norm = launcher.clip_gradients(model, stepper, max_norm=options.clip, error_if_nonfinite=False)
            value, steepness, signal = devices.agree(launcher, torch.stack(losses).sum(), norm, stop.signal)
            if scaler and math.isfinite(value) and not math.isfinite(steepness) and scaler.get_scale() >= 1:
                state.skipped += 1  # the scaler leaves the weights alone and halves its scale
            elif not (math.isfinite(value) and math.isfinite(steepness)):
                names = ", ".join(case.name for case in job.batches.cases(step - 1))
                raise DivergedError(
                    f"step {step}: the loss is {value:.4g} and the gradient's norm {steepness:.4g}, at the images "
                    f"{names}; a lower train.learning_rate may help"
                )
            stepper.step()
            stepper.zero_grad()
            if parts.average:
                parts.average.update(step)

            state.step = step
            state.losses.append(value)
            speed = (len(state.losses) - carried) * options.batch_size / (time.perf_counter() - since)
            now = Step(step, statistics.fmean(state.losses), rate, speed)
            if step % options.validate_every == 0 or step == options.steps:
                with phases("validate"):
                    now = replace(now, val_dice=_validate(job, parts, state, launcher, out))
            if watch:
                watch(now)
            if step % LOG_EVERY == 0 or now.val_dice is not None:
                state.rows.append(now)
                state.losses, since, carried = [], time.perf_counter(), 0
                if leads:
                    outcome.write_metrics(out, state.rows)
                tell(now)
            if leads and (signal or step % options.save_every == 0 or now.val_dice is not None):
                with phases("save"):
                    store.save(state, parts)
            if signal:
                raise StoppedError(f"stopped after step {step} of {options.steps}; the same command goes on", signal)
    return state


def _validate(job: Job, parts: Parts, state: State, launcher: Fabric, out: Path) -> float:
    """Dice of the weights as they would be kept. The first process measures and keeps them, all are told."""
    dice, keep_best = torch.zeros(1, dtype=torch.float64), job.settings.train.keep == "best"
    if launcher.is_global_zero:
        with parts.average.applied() if parts.average else nullcontext():
            parts.network.eval()
            table = evaluate.scores(job.predictor, job.held_out, "val", job.classes)
            parts.network.train()
            dice[0] = evaluate.mean(table)
            if not keep_best or state.best is None or float(dice) > state.best:
                weights.save(parts.network, out / run.WEIGHTS)
                evaluate.save(out, table)
    value = float(cast(Tensor, launcher.all_reduce(launcher.to_device(dice), reduce_op="sum")))
    state.measured(value)
    return value


def _enough(state: State, options: config.Train) -> bool:
    return options.patience is not None and state.since_best >= options.patience


def _inherit(longer_than: run.Run | None, parts: Parts, out: Path, leads: bool) -> State | None:
    """The last state of a shorter run, and what it kept; None without one."""
    if longer_than is None:
        return None
    state = Store(longer_than.path / run.STATE).load(parts)
    if state is None or state.step != longer_than.manifest["steps"]:
        raise DataError(f"{longer_than.path / run.STATE}: holds no state of the last step to go on from")
    if leads:
        for name in (run.WEIGHTS, run.SCORES):
            shutil.copy2(longer_than.path / name, out / name)
    if longer_than.manifest["stopped_early"]:
        state.since_best = 0  # else it would stop again at once
    return state


def _seed(seed: int, step: int, rank: int, part: int) -> None:
    """Dropout is a function of (seed, step, process, part of its batch): no generator's state needs saving, and what an
    auxiliary head draws in one part changes nothing in the next.
    """
    torch.manual_seed(int(np.random.SeedSequence([seed, 2, step, rank, part]).generate_state(1, np.uint64)[0]))


def _origin(earlier: run.Run) -> dict[str, Any]:
    return {"steps": earlier.manifest["steps"], "weights": earlier.manifest["files"][run.WEIGHTS]}


def _how(earlier: run.Run, settings: config.Config) -> dict[str, Any]:
    restarted = settings.train.schedule_start == earlier.manifest["steps"]
    schedule_is = "restarted" if restarted else "of one run"
    if earlier.manifest["stopped_early"]:
        schedule_is += ", past its early stop"
    return {"run": str(earlier.path.resolve()), "schedule": schedule_is}


def overfit(settings: config.Config, root: Path, *, tell: Callable[[str], object] | None = None) -> gates.Overfitting:
    """Try to learn the first batch by heart, after the gates that come before every training; nothing is written.

    It gives up after 200 steps, or `train.steps` if they are fewer.

    Args:
        settings: the complete config.
        root: a data folder in the competition's layout.
        tell: called with a line for every gate passed.

    Raises:
        DataError, ConfigError, DivergedError: as `train`.
    """
    options = settings.train
    launcher = devices.fabric(options.device, options.precision)
    job = prepare(settings, root, launcher)
    _gates(job, launcher, tell)
    steps = min(200, options.steps)
    return gates.overfit(job.network, job.batches(0), job.loss, launcher, options, steps=steps)


def _gates(job: Job, launcher: Fabric, tell: Callable[[str], object] | None) -> list[str]:
    part = next(iter(job.batches(0).parts(job.settings.train.accumulate)))
    return gates.check(job.network, job.settings, len(job.classes), part, job.loss, launcher, tell=tell)
