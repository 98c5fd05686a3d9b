"""The training loop, on one page: from the state a run is in to the state after its last step.

Dimension key: B batch of one process, K classes, h w logit resolution.
"""

import math
import shutil
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from carpus import config, devices, diverged, evaluate, outcome, run, schedule
from carpus.ema import Average
from carpus.errors import DataError, StoppedError
from carpus.formats import files
from carpus.job import Job
from carpus.models import rates, weights
from carpus.phases import Phases
from carpus.predict import network_input
from carpus.progress import Step
from carpus.state import Parts, State, Store
from carpus.stop import Stop
from carpus.track import tracking

LOG_EVERY = 10
"""Steps that a row of metrics.csv sums up."""

Watch = Callable[[Step], object]


def fit(
    job: Job,
    launcher: Fabric,
    out: Path,
    phases: Phases,
    stop: Stop,
    tracked: ExitStack,
    longer_than: run.Run | None,
    watch: Watch | None,
) -> State:
    """Train `job`, from where the last process left it.

    Args:
        job: what to train.
        launcher: device, precision, processes.
        out: the run folder, claimed.
        phases: adds up seconds and memory.
        stop: a signal in it ends the loop after the step.
        tracked: closes what is told of rows, see `track`: once the run is finished, or has failed.
        longer_than: a finished run whose last state is the first of this one.
        watch: called after every step.

    Returns:
        The state after the last step.

    Raises:
        DataError, DivergedError, StoppedError: as `train.train`.
    """
    options, leads = job.settings.train, launcher.is_global_zero
    network, scaler = job.network, devices.scaler(launcher)
    # The fused optimizer unscales fp16 gradients itself, too late for clipping them.
    optimizer = torch.optim.AdamW(rates.groups(network, options), lr=options.learning_rate, fused=scaler is None)
    model, stepper = launcher.setup(devices.compiled(network) if options.compile else network, optimizer)
    parts = Parts(network, optimizer, Average(network, options.ema) if options.ema else None, scaler)
    store = Store(out / run.STATE)
    state = store.load(parts) or _inherit(longer_than, parts, store, out, leads) or State()
    state.go_on(phases.seconds, phases.peak_mib, run.versions())
    launcher.barrier()  # all have read what the first is about to replace
    if leads:
        files.write_text(out / run.CONFIG, config.dump(job.settings))
        outcome.write_metrics(out, state.rows)

    network.train()
    batches = job.batches.ahead(range(state.step, options.steps), job.settings.data.workers)
    tell = tracked.enter_context(tracking(job.settings, out, state.step, leads))
    with phases("train"):
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
                    loss = job.loss.of_outputs((logits, *aux), labels, shares, **launcher.to_device(part.counting))
                    loss = loss / options.accumulate
                    launcher.backward(loss)
                losses.append(loss.detach())
            norm = launcher.clip_gradients(model, stepper, max_norm=options.clip, error_if_nonfinite=False)
            value, steepness, signal = devices.agree(launcher, torch.stack(losses).sum(), norm, stop.signal)
            if devices.overflowed(scaler, value, steepness):
                state.skipped += 1
            elif not (math.isfinite(value) and math.isfinite(steepness)):
                raise diverged.error(job, launcher, step, value, steepness)
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
                    now = replace(now, val_dice=_validate(job, parts, state, store, launcher, out))
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


def _validate(job: Job, parts: Parts, state: State, store: Store, launcher: Fabric, out: Path) -> float:
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
                state.kept = store.keep(out / run.WEIGHTS, out / run.SCORES)
    value = float(cast(Tensor, launcher.all_reduce(launcher.to_device(dice), reduce_op="sum")))
    state.measured(value)
    return value


def _enough(state: State, options: config.Train) -> bool:
    return options.patience is not None and state.since_best >= options.patience


def _inherit(longer_than: run.Run | None, parts: Parts, store: Store, out: Path, leads: bool) -> State | None:
    """The last state of a shorter run, and what it kept; None without one."""
    if longer_than is None:
        return None
    state = Store(longer_than.path / run.STATE).load(parts, finished=True)
    if state is None or state.step != longer_than.manifest["steps"]:
        raise DataError(f"{longer_than.path / run.STATE}: holds no state of the last step to go on from")
    if leads:
        shutil.copy2(longer_than.path / run.WEIGHTS, out / run.WEIGHTS)
        scores = evaluate.load(longer_than.path)  # those of a test are of the shorter run's weights alone
        evaluate.save(out, scores.loc[scores["split"] == "val"])
        state.kept = store.keep(out / run.WEIGHTS, out / run.SCORES)
    options = longer_than.settings.train
    chosen = options.keep == "best" and state.best_step == state.step
    if state.step % options.validate_every and not chosen:
        state.uncount()  # one run of so many steps would have no validation here, and patience would not count it
    if longer_than.manifest["stopped_early"]:
        state.since_best = 0  # else it would stop again at once
    return state


def _seed(seed: int, step: int, rank: int, part: int) -> None:
    """Dropout is a function of (seed, step, process, part of its batch): no generator's state needs saving, and what an
    auxiliary head draws in one part changes nothing in the next.
    """
    torch.manual_seed(int(np.random.SeedSequence([seed, 2, step, rank, part]).generate_state(1, np.uint64)[0]))
