"""The sheet of filters: which images the list has."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import streamlit as st

from carpus.viewer import reviews
from carpus.viewer.facts import Facts
from carpus.viewer.screens import selection, state
from carpus.viewer.server import Shown
from carpus.viewer.view import Judged, Labelled, LeftOut, View

_LABELLED: dict[Labelled, str] = {"any": "any", "yes": "labelled", "no": "not labelled", "missing": "bones missing"}
_JUDGED: dict[Judged, str] = {"any": "any", "no": "waiting for a verdict", "yes": "done"}
_CHOICES = ("search", "split", "labelled", "left_out", "judged", "sex", "pose", "thumb", "bone")


def chosen(view: View) -> View:
    """Take over what was chosen in the sheet; before anything is drawn, so that its button counts it."""
    picked = {name: st.session_state[_key(name)] for name in _CHOICES if _key(name) in st.session_state}
    if _key("dice") in st.session_state:
        picked["low"], picked["high"] = st.session_state[_key("dice")]
    return state.change(**picked) if picked else view


def sheet(shown: Shown, view: View) -> None:
    """A button that says how many filters are set, and opens them."""
    count = len(view.filters)
    with st.popover(f"Filter · {count}" if count else "Filter", width="stretch", key="filter"):
        _controls(shown, view, state.known(shown, view))
        if not state.measured(shown, view):
            st.caption("Pose, side, missing bones and scores are known once everything is measured.")
        st.button("Clear filters", on_click=_clear, disabled=not count, key="clear")


def _clear() -> None:
    state.unfilter()


def _controls(shown: Shown, view: View, known: Facts) -> None:
    workspace = shown.workspace
    left, right = st.columns(2)
    with left:
        st.text_input("Name", view.search, key=_key("search"))
        splits = sorted({entry.split for entry in workspace.entries if entry.split})
        _select("Split", "split", ["", *splits], view, {"": "any"})
        _select("Labels are", "labelled", get_args(Labelled), view, _LABELLED)
        if selection.name_of(workspace, view) or view.left_out != "any":
            _select("Bones left out", "left_out", get_args(LeftOut), view)
    with right:
        sexes = sorted({patient.sex for patient in workspace.patients.values() if patient.sex})
        if sexes:
            _select("Sex", "sex", ["", *sexes], view, {"": "any"})
        for name in ("pose", "thumb"):
            now = getattr(view, name)
            kinds = sorted({*known.kinds.get(name, {}).values(), *([now] if now else [])})
            _select(name.capitalize(), name, ["", *kinds], view, {"": "any"})
        if reviews.folders(workspace, (view.first, view.second)) or view.judged != "any":
            _select("Decided", "judged", get_args(Judged), view, _JUDGED)
    _select("Bone", "bone", ["", *workspace.classes], view, {"": "all of them"})
    st.slider("Dice between", 0.0, 1.0, (view.low, view.high), 0.005, key=_key("dice"))


def _select(label: str, name: str, options: Sequence[Any], view: View, names: Mapping[Any, str] | None = None) -> None:
    value = getattr(view, name)
    st.selectbox(
        label,
        options,
        options.index(value) if value in options else 0,
        format_func=lambda option: str((names or {}).get(option, option)),
        key=_key(name),
    )


def _key(name: str) -> str:
    return f"filter {state.sheet()} {name}"
