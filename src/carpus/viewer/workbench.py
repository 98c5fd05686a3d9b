"""The workbench as a Streamlit component: what it is given, and what it tells.

Dimension key: K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import streamlit as st
from streamlit.components import v2

from carpus import pictures
from carpus.errors import REFUSALS
from carpus.formats import images
from carpus.report.numbers import grouped
from carpus.viewer.layers import Entry
from carpus.viewer.packets import TOLERANCE_PX
from carpus.viewer.reviews import Decided
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

_DRAWN = ("style", "compare", "opacity", "bones", "chosen", "window", "gamma", "invert", "doubt", "at")
"""The fields of a view that the browser changes by itself."""


class Row(NamedTuple):
    """A row of the list of images.

    Args:
        place: of the entry.
        name: of the entry.
        score: a Dice; None where it is not known.
        mark: what was decided, see `Decided.mark`.
        out: how many bones were left out, in words.
        pane: the place of the first entry that is shown together with it.
        waits: whether bones of it have no decision, and could have one.
        bone: the class that the score is of; empty where it is of all.
    """

    place: int
    name: str
    score: float | None
    mark: str
    out: str
    pane: int
    waits: bool = False
    bone: str = ""


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
    rows: Sequence[Row],
    *,
    told: Callable[[Mapping[str, Any]], object],
    ahead: Sequence[int] = (),
    decided: Decided | None = None,
    can_undo: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
    found: Mapping[str, Mapping[str, Any] | None] | None = None,
    selection: Mapping[str, Any] | None = None,
    address: View | None = None,
    hint: str = "",
    near: Sequence[str] = (),
    narrow: bool = False,
    key: str = "workbench",
) -> None:
    """Show images with their labels.

    Args:
        workspace: all that was given.
        view: what is shown.
        places: the entries shown side by side.
        rows: the list on the left.
        told: called with everything that was asked for, in its order: {"go": place}, {"undo": folder}, {"clear": True}
            of the filters, or {"decide": {"case", "bone", "verdict", "folder"}}.
        ahead: places to fetch before they are asked for.
        decided: the decisions that are there; None where none can be made.
        can_undo: the folders in which this session has one to take back.
        notes: a few words about an entry.
        found: what `carpus pseudo` found about an entry, see `Selection.told`.
        selection: {"layer"} that it made, and what `Selection.origin` says of it.
        address: what the address holds beside how it is drawn, if not `view`.
        hint: a sentence about the list.
        near: bones that are picked out together and brought near.
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
        # Short groups first, or the longest fills the list.
        "groups": dict(sorted(grouped(workspace.classes).items(), key=lambda group: len(group[1]))),
        "truth": _hex(pictures.TRUTH),
        "prediction": _hex(pictures.PREDICTION),
        "tolerance": TOLERANCE_PX,
        "first": layers[0],
        "second": layers[1],
        "runs": [name for name in layers if name and workspace.layers[name].kind == "run"],
        "panes": [
            _pane(place, entry, decided, (notes or {}).get(entry.name, "")) | {"found": (found or {}).get(entry.name)}
            for place, entry in zip(places, entries, strict=True)
        ],
        "rows": [list(row) for row in rows],
        "hint": hint,
        "near": list(near),
        "ahead": list(ahead),
        "deciding": _progress(workspace, rows, decided, can_undo),
        "heard": st.session_state.get(_heard(key), 0),
        "selection": dict(selection) if selection else None,
        "case": view.case,
        "chosen": view.chosen,
        "narrow": narrow,
        "view": {name: getattr(view, name) for name in _DRAWN},
        "address": _shared(address or view).address(),
    }

    def asked() -> None:
        # A message that came while another was dealt with takes its place, so each brings those before that it has no
        # answer to yet.
        for message in st.session_state[key].get("asked") or ():
            if message["n"] > st.session_state.get(_heard(key), 0):
                st.session_state[_heard(key)] = message["n"]
                told(message)

    # In a list: among the values of a dict Streamlit looks for tables, and loads pandas to know one.
    _component()(data=[data], key=key, on_asked_change=asked)


def _shared(view: View) -> View:
    """The part of the view that Python knows; the rest of the address is the browser's."""
    plain = View()
    return view.but(**{name: getattr(plain, name) for name in _DRAWN})


def _heard(key: str) -> str:
    """Under which key a session has the number of the last message that it dealt with."""
    return f"{key} heard"


def _progress(
    workspace: Workspace, rows: Sequence[Row], decided: Decided | None, can_undo: Sequence[str]
) -> dict[str, Any] | None:
    """By folder: see `Decided.progress` of the images of the list, and whether undo helps."""
    if decided is None or not decided.known:
        return None
    found = {}
    for folder in decided.known:
        done, count, share = decided.progress(folder, (workspace.entries[row.place] for row in rows))
        found[folder] = {"done": done, "all": count, "share": share, "undo": folder in can_undo}
    return found


def _pane(place: int, entry: Entry, decided: Decided | None, told: str) -> dict[str, Any]:
    try:
        size, spacing = entry.size, images.spacing_mm(entry.image) if entry.image else None
    except REFUSALS:  # the picture says so itself
        size, spacing = (0, 0), None
    return {
        "place": place,
        "name": entry.name,
        "size": list(size),
        "assumed": entry.assumed,
        "spacing": spacing,
        "folder": decided.folder_of(entry) if decided else "",
        "marks": dict(decided.marks(entry)) if decided else {},
        "told": told,
    }


def _hex(colour: pictures.Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
