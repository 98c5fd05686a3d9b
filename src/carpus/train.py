"""The training loop: a recipe and a data set to a run folder.

Dimension key: B batch, K classes, S side of the images, L side of the label maps, h w logit resolution.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pandas
import torch
from lightning_fabric import Fabric
from torch import Tensor

from carpus import augment, config, data, evaluate, gates, losses, models, run
from carpus.errors import ConfigError, DataError, DivergedError
from carpus.formats import files
from carpus.labels import class_list
from carpus.models import rates, weights
from carpus.predict import Predictor, fabric, network_input
from carpus.progress import Step

LOG_EVERY = 10
"""Steps that a row of metrics.csv sums up."""


def train(
    settings: config.Config,
    root: Path,
    out: Path,
    *,
    overwrite: bool = False,
    watch: Callable[[Step], object] | None = None,
    tell: Callable[[str], object] | None = None,
) -> float:
    """Train one network and leave a run folder.

    Args:
        settings: the complete config.
        root: a data folder in the competition's layout.
        out: the run folder; new, or empty, or given up with `overwrite`.
        overwrite: replace a run that is there.
        watch: called after every step.
        tell: called with a line for every gate that the network has passed, see `gates`.

    Returns:
        Mean Dice of the validation patients at the labels' own resolution.

    Raises:
        DataError: the data set cannot be read, leaks, or leaves a side of the split empty.
        ConfigError: settings that contradict each other.
        DivergedError: a loss or gradient that is not a number; names step and images, and leaves the weights of the
            last validation, if there was one.
    """
    options = settings.train
    classes = class_list(settings.classes)
    dataset = data.read(root)
    learn, held_out = split(dataset, settings.data)
    fingerprint = data.fingerprint([*learn, *held_out, *dataset.test])
    # All that a setting can spoil comes before the folder is claimed: a mistake must not cost an earlier run.
    launcher = fabric(options.device, options.precision)
    torch.manual_seed(options.seed)
    network = models.build(settings.model, len(classes)).to(memory_format=torch.channels_last)
    predictor = Predictor(network, image_size=settings.data.image_size, classes=len(classes), launcher=launcher)
    loss_of = losses.build({str(name): weight for name, weight in options.loss.items()})
    label_size = settings.data.label_size or settings.data.image_size
    cache = data.Cache(classes, settings.data.image_size, label_size, int(settings.data.cache_gib * 2**30))
    limits = augment.Settings(**settings.augment.model_dump())
    batches = data.Batches(learn, cache, limits, batch_size=options.batch_size, seed=options.seed)
    passed = gates.check(network, settings, len(classes), batches(0), loss_of, launcher, tell=tell)

    def validate() -> pandas.DataFrame:
        # The weights are kept as well: the last good ones, should the run die or diverge.
        weights.save(network, out / run.WEIGHTS)
        network.eval()
        table = evaluate.scores(predictor, held_out, "val", classes)
        network.train()
        return table

    with run.claim(out, overwrite):
        files.write_text(out / run.CONFIG, config.dump(settings))
        started = time.perf_counter()
        history: list[Step] = []

        def log(row: Step) -> None:
            history.append(row)
            with files.atomic(out / run.METRICS) as temporary:
                pandas.DataFrame(history).to_csv(temporary, index=False)

        network.train()
        steps = batches.ahead(range(options.steps), settings.data.workers)
        table = _fit(network, steps, options, loss_of, launcher, validate=validate, log=log, watch=watch)
        evaluate.save(out, table)
        val_dice = evaluate.mean(table)
        run.finish(
            out,
            classes=classes,
            seed=options.seed,
            data={"path": str(root.resolve()), "sha256": fingerprint},
            train_patients=sorted({case.patient for case in learn}),
            val_patients=sorted({case.patient for case in held_out}),
            parameters=models.parameters(network),
            gates=passed,
            steps=options.steps,
            seconds=round(time.perf_counter() - started, 1),
            images_per_second=round(statistics.median(row.images_per_second for row in history), 2),
            val_dice=val_dice,
        )
    return val_dice


def split(dataset: data.Dataset, options: config.Data) -> tuple[list[data.Case], list[data.Case]]:
    """The annotated training cases to learn from and those of the held-out fold; no patient is in both.

    Raises:
        ConfigError: a fold that does not exist.
        DataError: fewer patients than folds, or a side without an annotated image.
    """
    if options.fold >= options.folds:
        raise ConfigError(f"data.fold: {options.fold} is not one of the {options.folds} folds, counted from 0")
    fold_of = data.folds(dataset, options.folds)
    annotated = [case for case in dataset.train if case.annotation]
    learn = [case for case in annotated if fold_of[case.patient] != options.fold]
    held_out = [case for case in annotated if fold_of[case.patient] == options.fold]
    if not learn or not held_out:
        raise DataError(
            f"{dataset.root}: {len(learn)} annotated images to learn from and {len(held_out)} to validate; "
            "each side needs one (are the annotations in train/outputs_json?)"
        )
    return learn, held_out


def _fit(
    network: models.Network,
    batches: Iterable[data.Batch],
    options: config.Train,
    loss_of: losses.Loss,
    launcher: Fabric,
    *,
    validate: Callable[[], pandas.DataFrame],
    log: Callable[[Step], object],
    watch: Callable[[Step], object] | None,
) -> pandas.DataFrame:
    """The loop itself; returns the scores of the last validation, which follows the last step."""
    optimizer = torch.optim.AdamW(rates.groups(network, options), lr=options.learning_rate, fused=True)
    model, optimizer = launcher.setup(network, optimizer)
    table = pandas.DataFrame()
    losses_of_row: list[float] = []
    since = time.perf_counter()
    for step, batch in enumerate(batches, start=1):
        rate = learning_rate(step - 1, options)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        logits, aux = model(network_input(batch.images, launcher))  # (B, K, h, w) each
        weights_now = network.loss_weights((step - 1) / max(1, options.steps - 1))
        loss = loss_of.of_outputs((logits, *aux), launcher.to_device(batch.labels), weights_now)
        launcher.backward(loss)
        norm = launcher.clip_gradients(model, optimizer, max_norm=options.clip, error_if_nonfinite=False)
        value, steepness = loss.item(), float(cast(Tensor, norm))
        if not (math.isfinite(value) and math.isfinite(steepness)):
            names = ", ".join(case.name for case in batch.cases)
            raise DivergedError(
                f"step {step}: the loss is {value:.4g} and the gradient's norm {steepness:.4g}, at the images {names}; "
                "a lower train.learning_rate may help"
            )
        optimizer.step()
        optimizer.zero_grad()

        losses_of_row.append(value)
        speed = len(losses_of_row) * options.batch_size / (time.perf_counter() - since)
        now = Step(step, statistics.fmean(losses_of_row), rate, speed)
        if step % options.validate_every == 0 or step == options.steps:
            table = validate()
            now = replace(now, val_dice=evaluate.mean(table))
        if watch:
            watch(now)
        if step % LOG_EVERY == 0 or now.val_dice is not None:
            log(now)
            losses_of_row, since = [], time.perf_counter()
    return table


def learning_rate(step: int, options: config.Train) -> float:
    """The rate of `step`, counted from 0: a linear rise over the warm-up, then a cosine that ends one step before 0."""
    rise = options.warmup * options.steps
    if step < rise:
        return options.learning_rate * (step + 1) / (rise + 1)
    return options.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / (options.steps - rise)))


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
    options, classes = settings.train, class_list(settings.classes)
    learn, _ = split(data.read(root), settings.data)
    launcher = fabric(options.device, options.precision)
    torch.manual_seed(options.seed)
    network = models.build(settings.model, len(classes)).to(launcher.device)
    label_size = settings.data.label_size or settings.data.image_size
    cache = data.Cache(classes, settings.data.image_size, label_size, int(settings.data.cache_gib * 2**30))
    limits = augment.Settings(**settings.augment.model_dump())
    batch = data.Batches(learn, cache, limits, batch_size=options.batch_size, seed=options.seed)(0)
    loss_of = losses.build({str(name): weight for name, weight in options.loss.items()})
    gates.check(network, settings, len(classes), batch, loss_of, launcher, tell=tell)
    return gates.overfit(network, batch, loss_of, launcher, options, steps=min(200, options.steps))
