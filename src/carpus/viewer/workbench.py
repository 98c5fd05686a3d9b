"""The workbench as a Streamlit component: what it is given, and what it tells.

Dimension key: K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import streamlit as st
from streamlit.components import v2

from carpus import pictures
from carpus.errors import REFUSALS
from carpus.formats import images
from carpus.report.numbers import grouped
from carpus.viewer.layers import Entry
from carpus.viewer.server import STATIC
from carpus.viewer.sources import Workspace
from carpus.viewer.view import View

# Modules come from the viewer's own route, so that they may import each other.
_START = """
const ready = import(new URL("/carpus/static/workbench.js", location.origin));
export default function (component) {
  let end = null, gone = false;
  ready.then((module) => { if (!gone) end = module.default(component); });
  return () => { gone = true; end?.(); };
}
"""


@cache
def _component() -> Any:
    return v2.component(
        "carpus_workbench",
        html='<div class="workbench"></div>',
        css=(STATIC / "workbench.css").read_text(encoding="utf-8"),
        js=_START,
    )


def workbench(
    workspace: Workspace,
    view: View,
    places: Sequence[int],
    rows: Sequence[tuple[int, str, float | None, str, str]],
    *,
    told: Callable[[Mapping[str, Any]], object],
    ahead: Sequence[int] = (),
    marks: Mapping[str, Mapping[str, str]] | None = None,
    deciding: Mapping[str, Any] | None = None,
    notes: Mapping[str, str] | None = None,
    found: Mapping[str, Mapping[str, Any] | None] | None = None,
    selection: Mapping[str, Any] | None = None,
    narrow: bool = False,
    key: str = "workbench",
) -> None:
    """Show images with their labels.

    Args:
        workspace: all that was given.
        view: what is shown.
        places: the entries shown side by side.
        rows: the list on the left: place, name, score or None, mark, what was left out.
        told: called with what was asked for: {"go": place}, {"decide": {"case", "bone", "verdict"}} or {"undo": True}.
        ahead: places to fetch before they are asked for.
        marks: the verdict on each bone, by entry.
        deciding: {"done", "all", "undo"} where decisions can be made.
        notes: a few words about an entry.
        found: what `carpus pseudo` found about an entry, see `Selection.told`.
        selection: {"layer"} that it made, and what `Selection.origin` says of it.
        narrow: leave the list on the left out.
        key: tells several of them apart.
    """
    entries = [workspace.entries[place] for place in places]
    layers = [name if name in workspace.layers else "" for name in (view.first, view.second)]
    palette = pictures.colours(len(workspace.classes))
    data = {
        "classes": [
            {"name": name, "colour": _hex(colour)} for name, colour in zip(workspace.classes, palette, strict=True)
        ],
        "groups": {name: list(members) for name, members in grouped(workspace.classes).items()},
        "truth": _hex(pictures.TRUTH),
        "prediction": _hex(pictures.PREDICTION),
        "first": layers[0],
        "second": layers[1],
        "panes": [
            _pane(place, entry, (marks or {}).get(entry.name, {}), (notes or {}).get(entry.name, ""))
            | {"found": (found or {}).get(entry.name)}
            for place, entry in zip(places, entries, strict=True)
        ],
        "rows": [list(row) for row in rows],
        "ahead": list(ahead),
        "deciding": dict(deciding) if deciding else None,
        "selection": dict(selection) if selection else None,
        "case": view.case,
        "chosen": view.chosen,
        "narrow": narrow,
        "view": {
            name: getattr(view, name)
            for name in ("style", "compare", "opacity", "bones", "chosen", "window", "gamma", "invert", "doubt", "at")
        },
        "address": _shared(view).address(),
    }

    def asked() -> None:
        message = st.session_state[key].get("asked")
        if message:
            told(message)

    _component()(data=data, key=key, on_asked_change=asked)


def _shared(view: View) -> View:
    """The part of the view that Python knows; the rest of the address is the browser's."""
    plain = View()
    browser = ("style", "compare", "opacity", "bones", "chosen", "window", "gamma", "invert", "doubt", "at")
    return view.but(**{name: getattr(plain, name) for name in browser})


def _pane(place: int, entry: Entry, marks: Mapping[str, str], told: str) -> dict[str, Any]:
    try:
        size, spacing = entry.size, images.spacing_mm(entry.image) if entry.image else None
    except REFUSALS:  # the picture says so itself
        size, spacing = (0, 0), None
    return {
        "place": place,
        "name": entry.name,
        "size": list(size),
        "spacing": spacing,
        "marks": dict(marks),
        "told": told,
    }


def _hex(colour: pictures.Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
