"""The settings in words: for `carpus schema`, and for what is wrong with one that was given."""

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel

from carpus.config.settings import Config


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
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if schema["type"] == "object":
        return f"mapping of names to {_type(schema['additionalProperties'])}"
    text = str(schema["type"])
    if "multipleOf" in schema:
        text = f"{text}, a multiple of {schema['multipleOf']},"
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    if "minimum" in schema and "maximum" in schema:
        return f"{text} {schema['minimum']:g}..{schema['maximum']:g}"
    if limits := [f"{sign} {schema[name]:g}" for name, sign in signs.items() if name in schema]:
        return f"{text} {' and '.join(limits)}"
    return text


def complaint(error: Any) -> str:
    """What is wrong with which setting, in the words of `carpus schema` and not of pydantic."""
    loc, types = list(error["loc"]), {name: kind for name, kind, *_ in fields()}
    if error["type"] in ("extra_forbidden", "invalid_key"):
        return f"{_dotted(loc)}: no such setting{_nearest(_field(loc))}"
    # The longest name that is known: model.up is one, and so is model.up.kind. A section is none by itself.
    known = next((end for end in range(len(loc), 0, -1) if _field(loc[:end]) in types), len(loc))
    name, kind, rest = _dotted(loc[:known]), types.get(_field(loc[:known]), "mapping"), loc[known:]
    if rest and rest[-1] == "[key]":
        return f"{name}.{rest[-2]}: no such name; expected {error['ctx']['expected']}"
    # Keys of a mapping and places in a list; the other parts are pydantic's names for the branches of a union.
    inner = [str(part) for part in rest if re.fullmatch(r"\w+", str(part))]
    if inner and error["type"] == "model_type":
        kind = "mapping"
    elif inner:
        limit = {"greater_than": " > {gt:g}", "greater_than_equal": " >= {ge:g}"}.get(error["type"], "")
        kind = f"number{limit.format(**error.get('ctx', {}))}"
    return f"{'.'.join([name, *inner])}: expected {kind}, got {error['input']!r:.80}"


def _dotted(loc: Sequence[Any]) -> str:
    return ".".join(map(str, loc))


def _field(loc: Sequence[Any]) -> str:
    """The name by `fields`, where any place in a list is ``[]``."""
    return _dotted(["[]" if isinstance(part, int) else part for part in loc]).replace(".[]", "[]")


def _nearest(name: str) -> str:
    known = {field: field.rsplit(".", 1)[-1] for field, *_ in fields()}
    last = name.rsplit(".", 1)[-1]
    # lr for learning_rate comes before what only looks alike, as loss does.
    initials = [
        field for field, of in known.items() if "_" in of and last == "".join(word[0] for word in of.split("_"))
    ]
    same = [field for field, of in known.items() if of == last]
    near = initials or difflib.get_close_matches(name, known, n=1) or same
    return f"; did you mean {near[0]}?" if near else "; `carpus schema` lists them all"
