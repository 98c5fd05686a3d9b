"""What a recipe and a data set come to before the first step: cases, network, loss and batches.

Dimension key: S side of the images, L side of the label maps.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric

from carpus import augment, config, data, devices, losses, models, sampling, schedule
from carpus.batches import Batches, Others, Share
from carpus.errors import ConfigError, DataError
from carpus.formats import files
from carpus.labels import Classes, class_list
from carpus.models import sources
from carpus.predict import Predictor
from carpus.pseudo import decisions, provenance, trust


@dataclass(frozen=True)
class Job:
    """A training that could begin.

    Attributes:
        learn: the annotated cases to learn from.
        held_out: those to validate on.
        fingerprints: of all images and of the held-out ones, see `data.fingerprint`.
        network: with its first weights.
        predictor: of the network.
        loss: logits and label maps to a mean over images and classes.
        batches: this process's share of every step's images.
        start: what the first weights bring with them.
        start_sha256: of the file or folder that the first weights are from; None without one.
        pseudo: where the pseudo-labels come from; None without any.
    """

    settings: config.Config
    classes: Classes
    learn: list[data.Case]
    held_out: list[data.Case]
    fingerprints: dict[str, dict[str, str]]
    network: models.Network
    predictor: Predictor
    loss: losses.Loss
    batches: Batches
    start: provenance.Taught
    start_sha256: str | None
    pseudo: provenance.Provenance | None = None

    def identity(self) -> dict[str, Any]:
        """All that decides the weights, for `run.claim`: only a run of the same may be gone on with."""
        settings = by_content(self.settings, self.start_sha256)
        del settings["data"]["pseudo"]["root"]  # what is there is among the fingerprints
        return {"settings": settings, "classes": list(self.classes.names), "data": self.fingerprints}


def by_content(settings: config.Config, start: str | None) -> dict[str, Any]:
    """`config.decisive` settings in which files go by their SHA-256, wherever they lie; `start` is `start_sha256`'s."""
    found = config.decisive(settings)
    if found["classes"]:
        found["classes"] = files.sha256(found["classes"])
    if found["data"]["hard"]:
        found["data"]["hard"] = files.sha256(found["data"]["hard"])
    if start:
        found["model"]["weights"] = start
    return found


def prepare(settings: config.Config, root: Path, launcher: Fabric) -> Job:
    """Read the data set, build the network, and check all that a setting can spoil.

    Raises:
        DataError: the data set cannot be read, leaks, or leaves a side of the split empty.
        ConfigError: settings that contradict each other or the number of devices.
    """
    options = settings.train
    classes = class_list(settings.classes)
    dataset = data.read(root)
    if (root / provenance.FILE).is_file():
        raise ConfigError(
            f"--data {root}: its labels are predictions, no truth to validate on; give annotated data, and "
            f"--set data.pseudo.root={root}"
        )
    learn, held_out = split(dataset, settings.data)
    test = [case for case in dataset.test if case.annotation]
    start = provenance.refuse_taught(settings.model.weights, held_out, test)
    fingerprints = {
        "all": data.fingerprint([*learn, *held_out, *dataset.test])._asdict(),
        "val": data.fingerprint(held_out)._asdict(),
    }
    if (root / decisions.FILE).is_file():
        fingerprints["trust"] = trust.fingerprint(root, learn)
    learn = trust.trusted(learn, root, classes)
    others, labelled = _pseudo(settings, learn, held_out, test, classes)
    if others:
        fingerprints["pseudo"] = trust.fingerprint(Path(str(settings.data.pseudo.root)), others.cases)
    size, label_size = settings.data.image_size, settings.data.label_size or settings.data.image_size
    # Of as many processes as will train, though a plan or a gate is but one.
    _check(settings, label_size, math.prod(devices.launched(options.devices, options.nodes)))
    torch.manual_seed(options.seed)
    built = devices.normalised_together(models.build(settings.model, len(classes)), launcher)
    network = cast(models.Network, built).to(memory_format=torch.channels_last)
    crop = settings.data.crop
    batches = Batches(
        learn,
        data.Cache(classes, size, label_size, int(settings.data.cache_gib * 2**30)),
        augment.Settings(**settings.augment.model_dump()),
        batch_size=options.batch_size,
        seed=options.seed,
        weights=sampling.weights(learn, settings.data, classes),
        crop=augment.Crop(crop, settings.data.crop_foreground, len(classes)) if crop else None,
        share=Share(launcher.global_rank, launcher.world_size),
        others=others,
    )
    return Job(
        settings=settings,
        classes=classes,
        learn=learn,
        held_out=held_out,
        fingerprints=fingerprints,
        network=network,
        predictor=Predictor(network, image_size=size, classes=len(classes), launcher=launcher),
        loss=losses.build(
            {str(name): weight for name, weight in options.loss.items()}, batch=options.loss_over == "batch"
        ),
        batches=batches,
        start=start,
        start_sha256=start_sha256(settings.model.weights),
        pseudo=labelled,
    )


def start_sha256(weights: str | None) -> str | None:
    """The SHA-256 of the file that gives the first weights, of its parts' hashes if there are several; None without."""
    path = config.weights_path(weights, Path()) if weights else None
    if path is None:
        return None
    parts = [files.sha256(part) for part in sources.files(path)]
    return parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()


def _pseudo(
    settings: config.Config,
    learn: list[data.Case],
    held_out: list[data.Case],
    test: list[data.Case],
    classes: Classes,
) -> tuple[Others | None, provenance.Provenance | None]:
    """The pseudo-labelled cases that take part in batches, and where their labels come from; None without any."""
    options = settings.data.pseudo
    if options.root is None:
        _refuse_unheeded(options)
        return None, None
    root = Path(options.root)
    labelled = provenance.read(root)
    if labelled.content["classes"] != list(classes.names):
        raise ConfigError(f"data.pseudo.root: {root} has other classes than this training")
    cases = [case for case in data.read(root).train if case.annotation]
    provenance.refuse_judges(labelled, cases, held_out, test, unverified=options.unverified)
    provenance.warn_of_annotated(labelled, cases, learn)
    trusted = trust.trusted(cases, root, classes, selection=options.selection, soft=options.soft)
    if all(case.doubt and len(case.doubt.ignored) == len(classes) for case in trusted):
        by = ["the selection of `carpus pseudo`"] * options.selection
        by += [decisions.FILE] * (root / decisions.FILE).is_file()
        told = f": {' and '.join(by)} left all out" if by else ""
        takes = ", data.pseudo.selection=false takes all of them as they come" if options.selection else ""
        raise DataError(
            f"{root}: not one label of its {len(trusted)} images counts, so there is nothing to learn from{told}. "
            f"Labels of better runs may be kept{takes}, and without any this is a training on annotated images alone"
        )
    train = settings.train
    end = train.schedule_start + options.until * ((train.horizon or train.steps) - train.schedule_start)
    others = Others(
        trusted,
        augment.Settings(**settings.augment.model_dump()).stronger(options.noise),
        options.share,
        options.weight,
        round(end),
    )
    return others, labelled


def _refuse_unheeded(options: config.Pseudo) -> None:
    """Raise a `ConfigError` for settings of pseudo-labels without any, unless it is said that there are none."""
    given = options.model_fields_set
    if given and "root" not in given:
        raise ConfigError(
            f"data.pseudo: {', '.join(sorted(given))}: without data.pseudo.root there are no pseudo-labels to learn "
            "from; give a folder of `carpus pseudo`, or data.pseudo.root=null to learn from annotated images alone"
        )


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


def _check(settings: config.Config, label_size: int, processes: int) -> None:
    options, size, crop = settings.train, settings.data.image_size, settings.data.crop
    parts = processes * options.accumulate
    if options.batch_size % parts:
        raise ConfigError(
            f"train.batch_size: {options.batch_size} images cannot be cut into equal parts for {processes} devices "
            f"and train.accumulate {options.accumulate}"
        )
    if crop and (crop > size or crop * label_size % size):
        raise ConfigError(
            f"data.crop: a window of {crop} of {size} pixels is no whole number of pixels of labels of {label_size}"
        )
    if options.loss_over == "batch" and parts > 1:
        raise ConfigError(
            f"train.loss_over: batch takes the images in memory at once for one, and {processes} devices and "
            f"train.accumulate {options.accumulate} make {parts} of a step: another loss. Take image, or one device "
            "and train.accumulate=1"
        )
    multiple = models.multiple(settings.model)
    if crop and crop % multiple:
        raise ConfigError(f"data.crop: {crop} is not a multiple of {multiple}, which a network with a down layer needs")
    if options.batch_size // parts < least(settings):
        raise ConfigError(
            f"{'data.crop' if crop else 'data.image_size'}: {crop or size} pixels become a single one in the network, "
            f"and {options.batch_size // parts} at once are too few for BatchNorm: of two numbers it makes 1 and -1, "
            f"whatever they are. Take {multiple * 2} pixels, {FEWEST} images at once, or model.norm=group"
        )
    schedule.rate(0, options)


FEWEST = 3
"""Numbers that BatchNorm needs to tell one from another."""


def least(settings: config.Config) -> int:
    """Images that the network must see at once to learn."""
    single = (settings.data.crop or settings.data.image_size) == models.multiple(settings.model)
    return FEWEST if single and settings.model.norm != "group" else 1
