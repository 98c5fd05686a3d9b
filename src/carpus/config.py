"""Every setting of a training run: its type, default and meaning, and how YAML files and `--set` make one.

A recipe is a YAML file that names only what differs from the defaults; later files and then ``--set a.b=c`` win::

    model: {encoder: resnet34}
    train: {steps: 2000, loss: {bce: 0.5, dice: 0.5}}
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from carpus.errors import ConfigError

RECIPES = Path(__file__).with_name("recipes")
"""The recipes that come with Carpus; on the command line their bare name is enough."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
LossName = Literal["bce", "focal", "dice", "jaccard", "tversky", "focal_tversky", "log_cosh_dice"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Aux(_Section):
    """An auxiliary head: a small FCN head on a feature map of the encoder, for training only."""

    stage: Literal[1, 2, 3, 4, 5] = Field(
        default=4, description="feature map of the encoder, of stride 2**stage; 4 is the third stage of a ResNet"
    )
    weight: Amount = Field(
        default=0.4, description="alpha, the weight of its loss beside 1 for the main one; their sum is divided out"
    )
    final_weight: Amount | None = Field(
        default=None, description="alpha at the last step, reached in a straight line; null: it stays"
    )
    channels: Count | None = Field(default=None, description="width of its 3x3 convolution; null: a quarter of the map")


class Down(_Section):
    """A learned halving of the image before the encoder."""

    kind: Literal["shuffle", "strided"] = Field(
        default="shuffle",
        description="shuffle: the 2x2 mean plus a convolution of the pixel-unshuffled image, one channel; "
        "strided: a strided convolution to eight channels and a widened first projection",
    )
    init: Literal["noop", "random"] = Field(
        default="noop", description="noop: the network begins as without it, on the halved image; random: anew"
    )


class Up(_Section):
    """A learned enlargement of the logits after the decoder."""

    kind: Literal["shuffle", "transposed"] = Field(
        default="shuffle",
        description="shuffle: bilinear plus pixel-shuffled features of the decoder; "
        "transposed: a transposed convolution of the logits",
    )
    factor: Literal[2, 4] = Field(default=2, description="by how much; the stride of the logits is divided by it")
    init: Literal["noop", "random", "icnr"] = Field(
        default="noop",
        description="noop: begins as bilinear; random: anew; icnr (shuffle only): anew, but without checkerboard",
    )


class Refine(_Section):
    """A correction of the logits from the logits."""

    kind: Literal["pointwise", "local", "depthwise", "attention"] = Field(
        default="local",
        description="pointwise: 1x1, identity at first; local: residual 3x3; depthwise: residual 7x7 by class; "
        "attention: residual mixture of the classes, chosen by the image",
    )
    init: Literal["noop", "random"] = Field(default="noop", description="noop: begins as identity; random: anew")
    control: bool = Field(
        default=False,
        description="in place of `kind` a residual per-pixel network of as many parameters, blind to the neighbourhood",
    )


class Model(_Section):
    """The network. `carpus models` lists what there is."""

    name: Literal[
        "unet", "unetplusplus", "fcn", "deeplabv3", "deeplabv3plus", "upernet", "segformer", "hrnet", "beit"
    ] = Field(default="unet", description="architecture")
    encoder: str = Field(
        default="resnet18",
        description="name of a segmentation-models-pytorch encoder, or tu- and that of a timm model; "
        "beit: beit_tiny, beit_base or beit_large",
    )
    weights: str | None = Field(
        default=None,
        description="what it starts from: null (random), imagenet, a hub repository as owner/name, a .safetensors "
        "file, or a folder of save_pretrained; of the encoder or of the whole network",
    )
    decoder_channels: tuple[Count, ...] | None = Field(
        default=None,
        description="widths of the decoder: five for a U-Net, coarse to fine, else one; null: the usual ones",
    )
    stride: Literal[1, 2, 4, 8] | None = Field(
        default=None,
        description="stride of the logits, for U-Nets; they are upsampled to the labels, so 2 saves time and costs "
        "little; null: the network's own",
    )
    norm: Literal["batch", "sync", "group", "frozen"] = Field(
        default="batch",
        description="batch: BatchNorm; sync: over all devices; group: GroupNorm with BatchNorm's scale and shift; "
        "frozen: the encoder keeps its statistics, scales and shifts",
    )
    down: Down | None = Field(default=None, description="learned halving of the image; null: none")
    up: Up | None = Field(default=None, description="learned enlargement of the logits; null: none")
    refine: Refine | None = Field(default=None, description="correction of the logits from the logits; null: none")
    calibration: bool = Field(
        default=False, description="a scale and a bias for every class after the logits, 1 and 0 at first"
    )
    aux: tuple[Aux, ...] = Field(default=(), description="auxiliary heads, for training only")
    checkpointing: bool = Field(
        default=False, description="compute activations twice instead of keeping them: less memory, same gradients"
    )


class Data(_Section):
    """What the network sees and what it is measured by."""

    image_size: int = Field(
        default=512, ge=32, multiple_of=32, description="side of the square image the network sees, in pixels"
    )
    label_size: int | None = Field(
        default=None, ge=1, description="side of the label maps of the loss, in pixels; null: the same as image_size"
    )
    folds: int = Field(default=5, ge=2, description="the training patients are dealt into so many folds")
    fold: int = Field(default=0, ge=0, description="the fold that validates")
    workers: Count = Field(default=2, description="threads that prepare batches")
    cache_gib: Positive = Field(default=4.0, description="memory for decoded cases, in GiB")


class Augment(_Section):
    """How far a training image may be changed; 0 turns a change off."""

    rotation_deg: float = Field(default=30.0, ge=0, le=180, description="largest turn to either side, degrees")
    scale: Amount = Field(default=0.15, description="largest change of size: 0.15 draws from 1/1.15 to 1.15")
    shift: Share = Field(default=0.06, description="largest shift along each axis, share of the side")
    flip: bool = Field(
        default=True, description="mirror every second image left to right (a left hand becomes a right one)"
    )
    gamma: Amount = Field(default=0.25, description="largest change of gamma, as scale")
    contrast: Amount = Field(default=0.2, description="largest change of contrast, as scale")
    brightness: Share = Field(default=0.05, description="largest change of brightness, share of the range")
    noise: Share = Field(default=0.03, description="largest standard deviation of added noise, share of the range")
    blur: Amount = Field(default=0.0, description="largest standard deviation of a Gaussian blur, pixels")


class Train(_Section):
    """The optimisation."""

    steps: Count = Field(default=2000, description="optimiser steps")
    batch_size: Count = Field(default=8, description="images in a step")
    learning_rate: Positive = Field(default=1e-3, description="peak learning rate of AdamW")
    encoder_rate: Positive = Field(default=1.0, description="learning rate of the encoder, times learning_rate")
    additions_rate: Positive = Field(
        default=1.0, description="learning rate of down, up, refine, calibration and aux, times learning_rate"
    )
    weight_decay: Amount = Field(default=1e-2, description="weight decay of AdamW")
    warmup: Share = Field(
        default=0.05, description="share of the steps in which the rate rises; then it falls as a cosine to 0"
    )
    clip: Positive = Field(default=1.0, description="largest norm of the gradient")
    loss: dict[LossName, Positive | dict[str, Amount]] = Field(
        default={"bce": 0.5, "dice": 0.5},
        min_length=1,
        description="weights of the losses that are added up; one with parameters is a mapping, as in "
        "{tversky: {weight: 1, alpha: 0.3, beta: 0.7}}",
    )
    precision: Literal["auto", "32", "bf16"] = Field(
        default="auto", description="arithmetic of the network; auto: bf16 where the processor or GPU has it, else 32"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where to compute")
    seed: int = Field(default=0, ge=0, description="decides initial weights, order and augmentation")
    validate_every: Count = Field(default=200, description="steps between two looks at the validation patients")


class Config(_Section):
    """Everything that a run needs to be repeated, besides the data."""

    model: Model = Field(default=Model(), description="the network")
    data: Data = Field(default=Data(), description="image and label size, folds, cache")
    augment: Augment = Field(default=Augment(), description="limits of the augmentation")
    train: Train = Field(default=Train(), description="the optimisation")
    classes: str | None = Field(
        default=None, description="JSON file with another class list; null: the 29 bones of the hand"
    )


def load(recipes: Sequence[Path | str] = (), overrides: Sequence[str] = ()) -> Config:
    """Make a config from YAML layers, later ones first in rank, and ``a.b=c`` overrides.

    Args:
        recipes: paths of YAML files or bare names of the recipes that come with Carpus.
        overrides: as of ``--set``; the value is read as YAML.

    Raises:
        ConfigError: one line that names the file or the override, the field, what came and what was expected.
    """
    content: dict[str, Any] = {}
    for recipe in recipes:
        path = _find(recipe)
        layer = _read(path)
        _validate(layer, str(path))
        content = _merge(content, layer)
    for override in overrides:
        layer = _parse(override)
        _validate(layer, f"--set {override}")
        content = _merge(content, layer)
    return _validate(content, " + ".join(map(str, recipes)) or "config")


def dump(config: Config) -> str:
    """The complete config as YAML; `load` reads it back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def fields(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Every field as (name, type, default, meaning), sections flattened to dotted names.

    A section that may be left out stands for itself first, as in ``model.up``, ``model.up.kind``; so does a list of
    them, as in ``model.aux``, ``model.aux[].stage``.
    """
    for name, field in model.model_fields.items():
        inner = _section(field.annotation)
        if inner is not field.annotation:
            schema = model.model_json_schema()["properties"][name]
            default = yaml.safe_dump(field.get_default(), default_flow_style=True).removesuffix("...\n").strip()
            yield f"{prefix}{name}", _type(schema), default, field.description or ""
        if inner:
            many = "[]" if get_origin(field.annotation) is tuple else ""
            yield from fields(inner, f"{prefix}{name}{many}.")


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section within `Section`, `Section | None` or `tuple[Section, ...]`."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return " | ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " | ".join(_type(option) for option in schema["anyOf"])
    if "$ref" in schema:
        return "mapping"
    text = {"object": "mapping", "array": "list"}.get(schema["type"], str(schema["type"]))
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    if high is not None:
        return f"{text} {low:g}..{high:g}"
    if low is not None:
        return f"{text} {'>' if 'exclusiveMinimum' in schema else '>='} {low:g}"
    return text


def _find(recipe: Path | str) -> Path:
    path = Path(recipe)
    if path.is_file():
        return path
    own = {own.stem: own for own in sorted(RECIPES.glob("*.yaml"))}
    if str(recipe) in own:
        return own[str(recipe)]
    raise ConfigError(f"{recipe}: no such file, nor one of the recipes {', '.join(own)}")


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML in which a key stands once and a tag is refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # pyright: ignore[reportUnknownMemberType]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, Any]:
    try:
        return _mapping(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error


def _mapping(text: str, source: str) -> dict[str, Any]:
    try:
        content = yaml.load(text, _StrictLoader)  # a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError(f"{source}: {where}{getattr(error, 'problem', None) or error}") from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: expected settings by name, got {type(content).__name__}")
    return content


def _parse(override: str) -> dict[str, Any]:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override}: expected NAME=VALUE, as in train.steps=500")
    layer = _mapping(f"value: {value}", f"--set {override}")["value"]
    for part in reversed(key.strip().split(".")):
        layer = {part: layer}
    return layer


def _merge(base: dict[str, Any], layer: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in layer.items():
        # A loss is one choice as a whole: {dice: 1} must not leave the bce of an earlier layer in it.
        section = isinstance(value, dict) and isinstance(merged.get(key), dict) and key != "loss"
        merged[key] = _merge(merged[key], value) if section else value
    return merged


def _validate(content: dict[str, Any], source: str) -> Config:
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{source}: {name}: no such setting{_nearest(name)}") from None
        raise ConfigError(f"{source}: {name}: {first['msg']}, got {first['input']!r}") from None


def _nearest(name: str) -> str:
    import difflib

    known = [field for field, *_ in fields()]
    near = difflib.get_close_matches(name, known, n=1) or [
        field for field in known if field.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]
    ]
    return f"; did you mean {near[0]}?" if near else "; `carpus schema` lists them all"
