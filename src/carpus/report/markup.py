"""HTML and SVG as nested calls: whatever is not `Markup` already is text, and text is escaped.

Names of cases and classes come from files. Escaping them is therefore not left to whoever writes a page.
"""

import html
import re

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_VOID = {"meta", "img", "br", "col"}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Part = str | int | float | None
"""What an element can hold: Markup as it is, anything else as text, None as nothing."""


def text(part: Part) -> Markup:
    """Escape `part`; control characters and unpaired surrogates of file names become U+FFFD."""
    if isinstance(part, Markup):
        return part
    return Markup("" if part is None else html.escape(_CONTROL.sub("\ufffd", str(part))))


def join(*parts: Part, between: str = "") -> Markup:
    """All parts one after the other, escaped where they are not `Markup`."""
    return Markup(text(between).join(text(part) for part in parts if part is not None))


def element(name: str, /, *parts: Part, **attributes: Part) -> Markup:
    """``<name attribute="value">parts</name>``.

    Args:
        name: the element's name.
        parts: its content.
        attributes: `class_` is class and `stroke_width` is stroke-width; None leaves the attribute out. Floats
            are written with two digits, because coordinates need no more.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>" if name in _VOID else f"<{name}{written}>{join(*parts)}</{name}>")


def _number(value: Part) -> Part:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
