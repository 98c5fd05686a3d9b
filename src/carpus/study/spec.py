"""A study file: a question, the arms that answer it, and what was said about them beforehand.

::

    name: Losses
    question: Which loss gives the best Dice?
    control: BCE
    margin: 0.001
    arms:
      BCE: {base: fcn, set: {train: {loss: {bce: 1}}}, published: {val: 0.9444, public: 0.9428, private: 0.9438}}
      Dice: {base: fcn, set: {train: {loss: {dice: 1}}}, published: {val: 0.9497, public: 0.9488, private: 0.9497}}
    contrasts: [[Dice, BCE]]
    claims: [{text: Dice is best., contrast: [Dice, BCE]}]
    regrets: [{text: More combined losses., arms: []}]
    scales:
      full: {seeds: 3, bases: {fcn: {recipe: fcn_resnet50}}}
      quick: {seeds: 3, bases: {fcn: {recipe: demo, set: {train: {steps: 100}}}}, phantom: {patients: 20}}

An arm is a base of the scale and what it sets differently; a base is a recipe and what it sets differently. Contrasts,
control and margin are written down before anything runs, and are all that a verdict may be about.
"""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from carpus import config
from carpus.errors import ConfigError

STUDIES = Path(__file__).parents[1] / "studies"
"""The studies that come with Carpus; on the command line their bare name is enough."""

ScaleName = Literal["full", "quick"]
Settings = Annotated[dict[str, Any], Field(description="settings as in a recipe")]
Dice = Annotated[float, Field(ge=0, le=1)]


class Cause(StrEnum):
    """What a difference may come from besides what its arms are named after."""

    BUDGET = "budget"
    TRANSDUCTIVE = "transductive"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Published(_Section):
    """What the report says of an arm; null where it says nothing."""

    val: Dice | None = None
    public: Dice | None = None
    private: Dice | None = None
    iterations: int | None = Field(default=None, ge=1)


class Pseudo(_Section):
    """Pseudo-labels of the test images, made by runs of other arms, that an arm also learns from."""

    teachers: tuple[str, ...] = Field(
        min_length=1, description="the arms whose runs of the same seed and fold make the labels; several vote"
    )


class Arm(_Section):
    """One row of the table: a base and what it sets differently."""

    base: str = Field(description="a base of the scale")
    set: Settings = Field(default={})
    full: Settings = Field(default={}, description="more settings, at this scale only")
    quick: Settings = Field(default={}, description="more settings, at this scale only")
    start: str | None = Field(
        default=None,
        description="the arm whose run of the same seed and fold gives the first weights; null: what the settings say",
    )
    calibrated: bool = Field(
        default=False,
        description="the run of the same settings, with thresholds and repairs that `carpus calibrate` fits on the "
        "patients it held out; so it has no Val",
    )
    pseudo: Pseudo | None = Field(
        default=None, description="pseudo-labels to learn from besides, as `data.pseudo` says; null: none"
    )
    control: str | None = Field(default=None, description="what it is compared with; null: the control of the study")
    published: Published | None = Field(default=None, description="the report's numbers; null: not in the report")
    note: str = Field(default="", description="what a reader must know of it")
    flags: dict[Cause, str] = Field(
        default={},
        description="why a difference may come from something else: budget, it had more steps, resolution, parameters "
        "or data than its control; transductive, it saw the test images",
    )


class Pair(NamedTuple):
    """Two arms: does `arm` differ from `against`, and by how much? As text it is "Dice against BCE"."""

    arm: str
    against: str

    def __str__(self) -> str:
        return f"{self.arm} against {self.against}"


class Claim(_Section):
    """A conclusion of the report, and the contrasts that would have to bear it."""

    text: str
    contrasts: tuple[Pair, ...] = Field(min_length=1)


class Regret(_Section):
    """Something the report wishes it had tried, and the arms that try it."""

    text: str
    arms: tuple[str, ...] = Field(min_length=1)


class Base(_Section):
    """Where arms begin: a recipe and what is set differently."""

    recipe: str = Field(description="the name of a recipe that comes along, or a path relative to the study file")
    set: Settings = Field(default={})


class Phantom(_Section):
    """Made-up data for a study without data, as of `carpus phantom`."""

    patients: int = Field(default=40, ge=1)
    test_patients: int = Field(default=20, ge=1)
    size: int = Field(default=256, ge=64, le=8192)
    seed: int = Field(default=0, ge=0)
    annotation_noise_px: float = Field(default=0.0, ge=0)
    domain_shift: float = Field(default=0.0, ge=0, le=1)


class Scale(_Section):
    """How large a study is done: networks, resolution, steps, seeds, folds."""

    bases: dict[str, Base] = Field(min_length=1)
    seeds: int = Field(default=3, ge=1, description="every arm is trained with the seeds 0, 1, 2, ...")
    folds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0,), min_length=1, description="the folds that validate, each in a run of its own"
    )
    phantom: Phantom | None = Field(default=None, description="data to make where none is given; null: none")
    minutes: float | None = Field(default=None, gt=0, description="measured time of the whole study on two cores")


class Study(_Section):
    """A study file, checked: every name in it is one of an arm or a base."""

    name: str = Field(min_length=1)
    question: str = Field(min_length=1)
    about: str = Field(default="", description="what a reader must know before the table")
    control: str = Field(description="the arm that the others are compared with")
    margin: float = Field(default=0.001, gt=0, lt=1, description="Dice; smaller differences are as good as none")
    arms: dict[str, Arm] = Field(min_length=1)
    contrasts: tuple[Pair, ...] = Field(min_length=1, description="pre-registered, in the table's order")
    claims: tuple[Claim, ...] = Field(default=())
    regrets: tuple[Regret, ...] = Field(default=())
    scales: dict[ScaleName, Scale] = Field(min_length=1)

    def control_of(self, arm: str) -> str | None:
        """The arm that `arm` is compared with; None for a control."""
        control = self.arms[arm].control or self.control
        return None if control == arm else control

    def flags(self, pair: Pair) -> dict[Cause, str]:
        """Why the difference of a pair may come from something else, as the file says of either arm."""
        found: dict[Cause, str] = {}
        for one, other in (pair, (pair.against, pair.arm)):
            whose = "" if one == pair.arm else f"{one}: "
            for cause, why in self.arms[one].flags.items():
                of_pair = cause not in self.arms[other].flags
                if cause is Cause.BUDGET:  # which is told of an arm and its control
                    of_pair = self.control_of(one) == other
                if of_pair:
                    found[cause] = whose + why
        return found

    def needs(self, arm: str) -> tuple[str, ...]:
        """The arms whose runs come before those of `arm`."""
        start, pseudo = self.arms[arm].start, self.arms[arm].pseudo
        return (*((start,) if start else ()), *(pseudo.teachers if pseudo else ()))


def load(study: Path | str) -> Study:
    """Read a study file, and look whether the settings of all its arms are such.

    Args:
        study: a path, or the name of a study that comes with Carpus, as ``2_losses``.

    Raises:
        ConfigError: one line that names the file, the key, and what is wrong with it.
    """
    path = find(study)
    found = read(path)
    for scale in found.scales:
        for arm in found.arms:
            settings(found, arm, scale, path)
    return found


def read(path: Path) -> Study:
    """Read a study file without the recipes that it names, as it lies in the folder of a study.

    Raises:
        ConfigError: as `load`.
    """
    try:
        # As JSON, because there a list is a tuple although everything else is strict.
        found = Study.model_validate_json(json.dumps(config.read_yaml(path), default=str))
    except ValidationError as error:
        raise ConfigError(f"{path}: {_complaint(error)}") from None
    for key, problem in _wrong_names(found):
        raise ConfigError(f"{path}: {key}: {problem}")
    return found


def find(study: Path | str) -> Path:
    """The path of a study file, or of one that comes with Carpus by its name."""
    if Path(study).is_file():
        return Path(study)
    if str(study) in names():
        return STUDIES / f"{study}.yaml"
    raise ConfigError(f"{study}: no such file, nor one of the studies {', '.join(names())}")


def names() -> tuple[str, ...]:
    """The studies that come with Carpus."""
    return tuple(path.stem for path in sorted(STUDIES.glob("*.yaml")))


def settings(
    study: Study, arm: str, scale: ScaleName, path: Path, *, seed: int = 0, fold: int | None = None
) -> config.Config:
    """The complete settings of one run, but for what runs before it leave.

    Args:
        study: what was read from `path`.
        arm: its name.
        scale: full or quick.
        path: the study file, from whose folder relative paths start.
        seed: of the training.
        fold: the fold that validates; None for what the settings say.

    Raises:
        ConfigError: naming file and key.
    """
    chosen = study.arms[arm]
    base = study.scales[scale].bases[chosen.base]
    inner = f"{path}: scales.{scale}.bases.{chosen.base}"
    recipe = path.parent / base.recipe
    try:
        first = config.load([recipe if recipe.is_file() else base.recipe])
    except ConfigError as error:
        raise ConfigError(f"{inner}.recipe: {error}") from None
    layers = [
        config.Layer(first.model_dump(mode="json"), f"{inner}.recipe", path.parent),
        config.Layer(base.set, f"{inner}.set", path.parent),
        config.Layer(chosen.set, f"{path}: arms.{arm}.set", path.parent),
        config.Layer(getattr(chosen, scale), f"{path}: arms.{arm}.{scale}", path.parent),
        config.Layer({"train": {"seed": seed}} | ({} if fold is None else {"data": {"fold": fold}}), "seed and fold"),
    ]
    return config.stacked(layers, f"{path}: arms.{arm}")


def _wrong_names(study: Study) -> Iterator[tuple[str, str]]:
    """Keys whose value names nothing, and what is wrong."""
    arms = f"expected one of the arms {', '.join(study.arms)}"

    def unknown(key: str, *names: str | None) -> Iterator[tuple[str, str]]:
        yield from ((key, f"{arms}, got {name}") for name in names if name is not None and name not in study.arms)

    yield from unknown("control", study.control)
    for name, arm in study.arms.items():
        yield from unknown(f"arms.{name}.control", arm.control)
        yield from unknown(f"arms.{name}.start", arm.start)
        yield from unknown(f"arms.{name}.pseudo.teachers", *(arm.pseudo.teachers if arm.pseudo else ()))
        for scale, what in study.scales.items():
            if arm.base not in what.bases:
                yield (
                    f"arms.{name}.base",
                    f"expected one of scales.{scale}.bases {', '.join(what.bases)}, got {arm.base}",
                )
    for place, pair in enumerate(study.contrasts):
        yield from unknown(f"contrasts[{place}]", *pair)
        if pair.arm == pair.against:
            yield f"contrasts[{place}]", f"compares {pair.arm} with itself"
        if pair in study.contrasts[:place]:
            yield f"contrasts[{place}]", f"{pair} stands twice"
    for place, claim in enumerate(study.claims):
        for pair in claim.contrasts:
            if pair not in study.contrasts:
                yield f"claims[{place}].contrasts", f"{pair} is none of contrasts"
    for place, regret in enumerate(study.regrets):
        yield from unknown(f"regrets[{place}].arms", *regret.arms)
    yield from _circles(study)


def _circles(study: Study) -> Iterator[tuple[str, str]]:
    before: Mapping[str, tuple[str, ...]] = {arm: study.needs(arm) for arm in study.arms}
    for arm in study.arms:
        seen, ahead = set[str](), [arm]
        while ahead:
            for name in before.get(ahead.pop(), ()):
                if name == arm:
                    yield f"arms.{arm}", "waits for a run of its own"
                    return
                if name not in seen:
                    seen.add(name)
                    ahead.append(name)


def _complaint(found: ValidationError) -> str:
    """The worst of what is wrong: a key misspelt, which leaves another missing, comes first."""
    error = max(found.errors(), key=lambda one: (one["type"] == "extra_forbidden", len(one["loc"])))
    parts = [part for part in error["loc"] if part != "[key]"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
    if error["type"] == "extra_forbidden":
        return f"{key}: no such key"
    if error["type"] == "missing":
        return f"{key}: is missing"
    return f"{key}: {error['msg'][0].lower()}{error['msg'][1:]}, got {error['input']!r:.80}"
