"""YAML read strictly."""

import re
from pathlib import Path
from typing import Any

import yaml

from carpus.errors import ConfigError


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML in which a key stands once, a tag is refused and 1e-3 is a number (YAML 1.1 wants 1.0e-3)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # pyright: ignore[reportUnknownMemberType]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, read strictly: no tag, no key twice, 1e-3 is a number.

    Raises:
        ConfigError: naming file and line.
    """
    try:
        return mapping(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error


def mapping(text: str, source: str) -> dict[str, Any]:
    """The mapping in a YAML text, empty for an empty one; errors as of `read_yaml`, which begin with `source`."""
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
