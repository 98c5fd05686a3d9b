"""What a session remembers: the view, opened from the address, and what was measured."""

import getpass
from typing import Any

import streamlit as st

from carpus.viewer import facts, server
from carpus.viewer.facts import Facts
from carpus.viewer.reviews import Reviews
from carpus.viewer.server import Shown
from carpus.viewer.sources import Workspace
from carpus.viewer.view import UNFILTERED, View


def opened() -> tuple[Shown, View]:
    """What is shown; of a new session the view is that of the address, with layers filled in."""
    shown = server.shown()
    if "view" not in st.session_state:
        st.session_state.view = _filled(shown.workspace, View.read(dict(st.query_params)))
    return shown, st.session_state.view


def change(**changes: Any) -> View:
    """Change the view."""
    st.session_state.view = st.session_state.view.but(**changes)
    return st.session_state.view


def unfilter(**changes: Any) -> View:
    """Change the view, and take all filters back; their controls begin anew."""
    st.session_state.sheet = sheet() + 1
    return change(**UNFILTERED, **changes)


def sheet() -> int:
    """Which controls the filters have: those of one sheet remember what was chosen in them."""
    return st.session_state.get("sheet", 0)


def address(view: View) -> None:
    """Put the view into the address; on a page with a workbench that does it, at once."""
    if st.query_params.to_dict() != view.address():
        st.query_params.from_dict(view.address())


def _filled(workspace: Workspace, view: View) -> View:
    names = workspace.layers
    first, second = (view.first, "") if view.first in names else workspace.compared()
    if view.second in names and view.second != first:
        second = view.second
    return view.but(first=first, second=second)


def known(shown: Shown, view: View) -> Facts:
    """What was measured of the layers shown; nothing yet where nothing was asked for."""
    return shown.kept.get(("facts", view.first, view.second)) or Facts.unknown(shown.workspace)


def measured(shown: Shown, view: View) -> bool:
    """Whether the layers shown were measured."""
    return ("facts", view.first, view.second) in shown.kept


def measure(shown: Shown, view: View) -> None:
    """Measure the layers shown, with a bar of progress."""
    bar = st.progress(0.0, "Reading labels")
    count = len(shown.workspace.entries)

    def progress(done: int, total: int) -> None:
        if done % max(1, count // 100) == 0:
            bar.progress(done / total, f"Reading labels: {done} of {total}")

    shown.kept["facts", view.first, view.second] = facts.scan(shown.workspace, view.first, view.second, progress)
    bar.empty()


def reviews(shown: Shown, name: str) -> Reviews:
    """The decisions of this session in a data folder."""
    kept = st.session_state.setdefault("reviews", {})
    if name not in kept:
        kept[name] = Reviews(shown.workspace.folders[name], shown.workspace.classes, _user())
    return kept[name]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no entry for this user
        return ""
