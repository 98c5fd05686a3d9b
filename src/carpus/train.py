"""The training loop: a recipe and a data set to a run folder.

Dimension key: B batch, K classes, S side of the images, L side of the label maps, h w logit resolution.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import torch
from torch import nn

from carpus import augment, data, evaluate, losses, models, run
from carpus.config import Config, Train, dump
from carpus.errors import ConfigError, DataError
from carpus.formats import files
from carpus.labels import BONES, Classes
from carpus.models import weights
from carpus.predict import Predictor, fabric
from carpus.progress import Step

LOG_EVERY = 10


class DivergedError(ArithmeticError):
    """The loss is no longer a number."""


def train(
    settings: Config,
    root: Path,
    out: Path,
    *,
    overwrite: bool = False,
    watch: Callable[[Step], object] | None = None,
) -> float:
    """Train one network and leave a run folder.

    Args:
        settings: the complete config.
        root: a data folder in the competition's layout.
        out: the run folder; new, or empty, or given up with `overwrite`.
        overwrite: replace a run that is there.
        watch: called after every step.

    Returns:
        Mean Dice of the validation patients at the labels' own resolution.

    Raises:
        DataError: the data set cannot be read, leaks, or leaves a side of the split empty.
        ConfigError: settings that contradict each other.
        DivergedError: a loss that is not a number; names step and images, and leaves the last good weights.
    """
    classes = Classes.read(settings.classes) if settings.classes else BONES
    dataset = data.read(root)
    learn, held_out = split(dataset, settings)
    fingerprint = data.fingerprint([*learn, *held_out])
    with run.claim(out, overwrite):
        files.write_text(out / run.CONFIG, dump(settings))
        started = time.perf_counter()
        network, history = _fit(settings, classes, learn, held_out, out, watch)
        predictor = _predictor(network.eval(), settings, classes)
        table = evaluate.scores(predictor, held_out, "val", classes)
        evaluate.save(out, table)
        val_dice = evaluate.mean(table)
        run.finish(
            out,
            classes=classes,
            seed=settings.train.seed,
            data={"path": str(root.resolve()), "sha256": fingerprint},
            train_patients=sorted({case.patient for case in learn}),
            val_patients=sorted({case.patient for case in held_out}),
            parameters=models.parameters(network),
            steps=settings.train.steps,
            seconds=round(time.perf_counter() - started, 1),
            images_per_second=round(float(pandas.Series([row.images_per_second for row in history]).median()), 2),
            val_dice=val_dice,
        )
    return val_dice


def split(dataset: data.Dataset, settings: Config) -> tuple[list[data.Case], list[data.Case]]:
    """The annotated training cases to learn from and those of the held-out fold; no patient is in both."""
    if settings.data.fold >= settings.data.folds:
        raise ConfigError(
            f"data.fold: {settings.data.fold} is not one of the {settings.data.folds} folds, counted from 0"
        )
    fold_of = data.folds(dataset, settings.data.folds)
    annotated = [case for case in dataset.train if case.annotation]
    learn = [case for case in annotated if fold_of[case.patient] != settings.data.fold]
    held_out = [case for case in annotated if fold_of[case.patient] == settings.data.fold]
    if not learn or not held_out:
        raise DataError(f"{dataset.root}: {len(learn)} annotated images to learn from and {len(held_out)} to validate")
    return learn, held_out


def _fit(
    settings: Config,
    classes: Classes,
    learn: list[data.Case],
    held_out: list[data.Case],
    out: Path,
    watch: Callable[[Step], object] | None,
) -> tuple[nn.Module, list[Step]]:
    options = settings.train
    launcher = fabric(options.device, options.precision)
    torch.manual_seed(options.seed)
    network = models.build(settings.model, len(classes)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(_groups(network, options.weight_decay), lr=options.learning_rate, fused=True)
    model, optimizer = launcher.setup(network, optimizer)
    loss_of = losses.build({str(name): weight for name, weight in options.loss.items()})
    label_size = settings.data.label_size or settings.data.image_size
    cache = data.Cache(classes, settings.data.image_size, label_size, int(settings.data.cache_gib * 2**30))
    limits = augment.Settings(**settings.augment.model_dump())
    batches = data.Batches(learn, cache, limits, batch_size=options.batch_size, seed=options.seed)

    history: list[Step] = []
    total, since = 0.0, time.perf_counter()
    model.train()
    for step, batch in enumerate(batches.ahead(range(options.steps), settings.data.workers)):
        rate = learning_rate(step, options)
        for group in optimizer.param_groups:
            group["lr"] = rate
        pictures = launcher.to_device(data.normalise(batch.images).contiguous(memory_format=torch.channels_last))
        logits = model(pictures).logits  # (B, K, h, w)
        loss = loss_of(logits, launcher.to_device(batch.labels))
        if not torch.isfinite(loss):
            names = ", ".join(case.name for case in batch.cases)
            raise DivergedError(f"the loss of step {step + 1} is {loss.item()}, at the images {names}; lower the rate?")
        launcher.backward(loss)
        launcher.clip_gradients(model, optimizer, max_norm=options.clip)
        optimizer.step()
        optimizer.zero_grad()

        total += loss.item()
        done = step + 1
        steps = (done - 1) % LOG_EVERY + 1
        speed = steps * options.batch_size / (time.perf_counter() - since)
        now = Step(done, total / steps, rate, speed)
        if done % options.validate_every == 0 and done < options.steps:
            now = replace(now, val_dice=_validate(network, settings, classes, held_out, out))
        if watch:
            watch(now)
        if done % LOG_EVERY == 0 or done == options.steps or now.val_dice is not None:
            history.append(now)
            _save_metrics(history, out)
            total, since = 0.0, time.perf_counter()
    weights.save(network, out / run.WEIGHTS)
    return network, history


def learning_rate(step: int, options: Train) -> float:
    """The rate of `step`, counted from 0: a linear rise over the warm-up, then a cosine to 0 at the last step."""
    rise = options.warmup * options.steps
    if step < rise:
        return options.learning_rate * (step + 1) / (rise + 1)
    return options.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(options.steps - rise, 1)))


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    # Decay pulls weights towards 0; for biases and the scales of a norm, one-dimensional all, 0 is no goal.
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _validate(network: nn.Module, settings: Config, classes: Classes, held_out: list[data.Case], out: Path) -> float:
    # The weights are kept as well: the last good ones, should the run die or diverge.
    weights.save(network, out / run.WEIGHTS)
    network.eval()
    predictor = _predictor(network, settings, classes)
    dice = evaluate.mean(evaluate.scores(predictor, held_out, "val", classes))
    network.train()
    return dice


def _predictor(network: nn.Module, settings: Config, classes: Classes) -> Predictor:
    launcher = fabric(settings.train.device, settings.train.precision)
    return Predictor(network, image_size=settings.data.image_size, classes=len(classes), launcher=launcher)


def _save_metrics(history: list[Step], out: Path) -> None:
    with files.atomic(out / run.METRICS) as temporary:
        pandas.DataFrame(history).to_csv(temporary, index=False)
