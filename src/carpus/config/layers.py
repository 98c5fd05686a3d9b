"""A config from layers: recipes, overrides, the settings of a run folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from carpus.config.schema import complaint
from carpus.config.settings import Config
from carpus.config.strict_yaml import mapping, read_yaml
from carpus.errors import ConfigError

RECIPES = Path(__file__).parents[1] / "recipes"
"""The recipes that come with Carpus; on the command line their bare name is enough."""


def load(recipes: Sequence[Path | str] = (), overrides: Sequence[str] = ()) -> Config:
    """Make a config from YAML layers, later ones first in rank, and ``a.b=c`` overrides.

    Args:
        recipes: paths of YAML files or bare names of the recipes that come with Carpus.
        overrides: as of ``--set``; the value is read as YAML.

    Raises:
        ConfigError: one line that names the file or the override, the field, what came and what was expected.
    """
    paths = [_find(recipe) for recipe in recipes]
    layers = [Layer(read_yaml(path), str(path), path.parent) for path in paths]
    layers += [Layer(_parse(override), f"--set {override}") for override in overrides]
    return stacked(layers, " + ".join(map(str, recipes)) or "config")


class Layer(NamedTuple):
    """Some settings, where they come from, and the folder that their relative paths start from."""

    content: Mapping[str, Any]
    source: str
    folder: Path = Path()


def stacked(layers: Sequence[Layer], source: str) -> Config:
    """Make a config from layers, later ones first in rank.

    Raises:
        ConfigError: one line that names the source of a layer, or `source` for what they come to together, the field,
            what came and what was expected.
    """
    content: dict[str, Any] = {}
    for layer in layers:
        resolved = _resolved(dict(layer.content), layer.folder)
        _validate(resolved, layer.source)
        content = _merge(content, resolved)
    return _validate(content, source)


def changed(config: Config, override: str) -> Config:
    """The same config but for one ``a.b=c``, read as by `load`."""
    return _validate(_merge(config.model_dump(mode="json"), _parse(override)), f"--set {override}")


def decisive(config: Config) -> dict[str, Any]:
    """The settings that decide the weights, as JSON: without those of where and how fast, and of who is told."""
    settings = config.model_dump(mode="json")
    for section, name in (("data", "workers"), ("data", "cache_gib"), ("train", "save_every")):
        del settings[section][name]
    del settings["track"]
    return settings


def dump(config: Config) -> str:
    """The complete config as YAML; `load` reads it back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _find(recipe: Path | str) -> Path:
    path = Path(recipe)
    if path.is_file():
        return path
    own = {own.stem: own for own in sorted(RECIPES.glob("*.yaml"))}
    if str(recipe) in own:
        return own[str(recipe)]
    raise ConfigError(f"{recipe}: no such file, nor one of the recipes {', '.join(own)}")


def _resolved(layer: dict[str, Any], folder: Path) -> dict[str, Any]:
    # A run folder is used from anywhere, so its config holds the whole path.
    if isinstance(layer.get("classes"), str):
        layer = layer | {"classes": str((folder / layer["classes"]).resolve())}
    section = layer.get("data")
    if isinstance(section, dict) and isinstance(section.get("hard"), str):
        section = section | {"hard": str((folder / section["hard"]).resolve())}
        layer = layer | {"data": section}
    pseudo = section.get("pseudo") if isinstance(section, dict) else None
    if isinstance(section, dict) and isinstance(pseudo, dict) and isinstance(pseudo.get("root"), str):
        layer = layer | {"data": section | {"pseudo": pseudo | {"root": str((folder / pseudo["root"]).resolve())}}}
    section = layer.get("model")
    if isinstance(section, dict) and isinstance(section.get("weights"), str):
        path = weights_path(section["weights"], folder)
        layer = layer if path is None else layer | {"model": section | {"weights": str(path.resolve())}}
    return layer


RUN_WEIGHTS = "weights.safetensors"
"""The weights in a run folder."""

_WEIGHTS = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"}


def weights_path(value: str, folder: Path) -> Path | None:
    """The path that `model.weights` names, from `folder`; None if it names a hub repository or a library's weights.

    A path is a file that is there, a folder with weights in it, what is written like a path, or what has a suffix of
    weights or a folder to be in: a folder mistyped is not looked for on the hub, and a data folder called imagenet is
    not taken for weights. A run folder stands for its weights.
    """
    path = folder / Path(value).expanduser()
    if (path / RUN_WEIGHTS).is_file() and not (path / "model.safetensors").is_file():
        return path / RUN_WEIGHTS
    written = value.startswith((".", "~")) or Path(value).is_absolute() or value.count("/") > 1
    placed = "/" in value and path.parent.is_dir()
    there = path.is_file() or (path.is_dir() and any(each.suffix in _WEIGHTS for each in path.iterdir()))
    return path if there or written or placed or path.suffix in _WEIGHTS else None


def _parse(override: str) -> dict[str, Any]:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override}: expected NAME=VALUE, as in train.steps=500")
    layer = mapping(f"value: {value}", f"--set {override}")["value"]
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
        # Of a union, every branch complains; the one that got furthest knows best.
        raise ConfigError(f"{source}: {complaint(max(error.errors(), key=lambda one: len(one['loc'])))}") from None
