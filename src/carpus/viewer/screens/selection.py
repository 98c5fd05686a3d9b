"""What `carpus pseudo` left out of the labels that are shown: when it is read, and what is done where it cannot be."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from carpus.errors import DataError
from carpus.viewer.layers import Entry
from carpus.viewer.selections import Overview, Selection
from carpus.viewer.server import Shown
from carpus.viewer.sources import Workspace
from carpus.viewer.view import View


def name_of(workspace: Workspace, view: View) -> str:
    """The layer shown first, or second, whose labels `carpus pseudo` made; empty where neither is such a one."""
    return next((name for name in (view.first, view.second) if name in workspace.selections), "")


def overview(shown: Shown, view: View) -> Overview | None:
    """What was left out of all images: read, with a bar of progress, once a filter or the order asks for it."""
    name = name_of(shown.workspace, view)
    key = ("overview", name)
    wanted = view.left_out != "any" or view.order in ("left_out", "agreement")
    if name and wanted and key not in shown.kept:
        bar = st.progress(0.0, "Reading what was left out")
        shown.kept[key] = shown.workspace.selections[name].overview(
            shown.workspace.entries, lambda done, total: _tell(bar, done, total)
        )
        bar.empty()
        if shown.kept[key].faults:
            st.rerun()  # so that they are told beside the controls, which are drawn already
    return shown.kept.get(key)


def _tell(bar: Any, done: int, total: int) -> None:
    if done % max(1, total // 100) == 0:
        bar.progress(done / total)


def found(workspace: Workspace, view: View, places: Sequence[int]) -> dict[str, dict[str, Any] | None]:
    """What the browser shows of the entries at `places`, by name, see `Selection.told`."""
    selection = workspace.selections.get(name_of(workspace, view))
    if selection is None:
        return {}
    return {entry.name: _told(selection, entry) for entry in (workspace.entries[n] for n in places)}


def origin(workspace: Workspace, view: View) -> dict[str, Any] | None:
    """The layer whose labels `carpus pseudo` made, and what `Selection.origin` says of it."""
    name = name_of(workspace, view)
    return {"layer": name, **workspace.selections[name].origin()} if name else None


def _told(selection: Selection, entry: Entry) -> dict[str, Any] | None:
    # What cannot be read is the summary: the picture can be shown without it.
    try:
        return selection.told(entry)
    except DataError as error:
        return {"bones": {}, "summary": str(error)}
