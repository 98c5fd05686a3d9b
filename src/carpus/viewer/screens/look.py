"""Look: one image or both hands, labels and predictions, differences, and decisions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st

from carpus.errors import REFUSALS
from carpus.report.findings import plural
from carpus.viewer import facts, reviews
from carpus.viewer.facts import Facts
from carpus.viewer.reviews import Decided, Reviews
from carpus.viewer.screens import filters, selection, state
from carpus.viewer.screens.unread import unread
from carpus.viewer.selections import Overview
from carpus.viewer.server import Shown
from carpus.viewer.view import Order, View
from carpus.viewer.workbench import Row, workbench

_NONE = "nothing"
_ORDERS: dict[Order, str] = {
    "name": "by name",
    "worst": "lowest bone first",
    "mean": "lowest mean first",
    "bone": "lowest of this bone first",
    "left_out": "most bones left out first",
    "agreement": "lowest agreement first",
}
_OF_SELECTIONS = ("left_out", "agreement")


def page() -> None:
    """Draw the page."""
    shown, view = state.opened()
    workspace = shown.workspace
    if not workspace.entries:
        st.info("Nothing here has images. Give the data folder too: `carpus view RUN DATA`.")
        return
    try:
        view = _controls(shown, view)
        known = state.known(shown, view)
        overview = selection.overview(shown, view)
        decided = _decided(shown, view)
        chosen = facts.choose(workspace, known, view, overview, decided)
        at = _place(shown, view, chosen)
    except REFUSALS as error:
        st.error(str(error))
        return
    view = st.session_state.view
    before, after = facts.neighbours(chosen, at) if at is not None else (None, None)
    places = _panes(shown, view, at)
    workbench(
        workspace,
        view,
        places,
        _rows(shown, view, known, chosen, overview, decided),
        told=lambda message: _answer(shown, message),
        ahead=[n for n in (after, before) if n is not None],
        decided=decided,
        can_undo=[name for name in decided.known if state.reviews(shown, name).can_undo],
        notes={workspace.entries[n].name: _told(shown, known, n) for n in places},
        found=selection.found(workspace, view, places),
        selection=selection.origin(workspace, view),
        hint=_hint(shown, view),
    )


def _controls(shown: Shown, view: View) -> View:
    workspace = shown.workspace
    view = filters.chosen(view)
    layers = list(workspace.layers)
    faults = _faults(shown, view)
    columns = st.columns([1.2, 1.2, 1.1, 0.75, 0.75, 0.9, *([0.9] if faults else [])], vertical_alignment="center")
    with columns[0]:
        first = _select("Labels", layers, view.first)
    with columns[1]:
        second = _select("against", [_NONE, *(name for name in layers if name != first)], view.second or _NONE)
    with columns[2]:
        pseudo = selection.name_of(workspace, view) or view.order in _OF_SELECTIONS
        orders = [order for order in _ORDERS if pseudo or order not in _OF_SELECTIONS]
        order = _select("Order", orders, view.order, _ORDERS)
    with columns[3]:
        filters.sheet(shown, view)
    with columns[4]:
        both = st.toggle("Both hands", view.both, key="both")
    view = state.change(first=first or "", second="" if second == _NONE else second or "", order=order, both=both)
    with columns[5]:
        # Scores of all images take a pass over all labels, so they are asked for.
        label = "Measured" if state.measured(shown, view) else "Measure all"
        asked = st.button(label, disabled=state.measured(shown, view) or not first, width="stretch", help=_MEASURE)
    if asked:
        state.measure(shown, view)
        st.rerun()
    if faults:
        with columns[6]:
            unread(faults)
    return view


def _hint(shown: Shown, view: View) -> str:
    """What the list does not do that filters and order say, and why."""
    if facts.needs_pair(view):
        return "There is no Dice without something to compare with."
    asked = [] if state.measured(shown, view) else facts.asked(view)
    return f"Not known before everything is measured: {', '.join(asked)}." if asked else ""


def _faults(shown: Shown, view: View) -> list[str]:
    """What could not be read so far."""
    overview = shown.kept.get(("overview", selection.name_of(shown.workspace, view)))
    return [*shown.workspace.faults, *state.known(shown, view).faults, *(overview.faults if overview else ())]


_MEASURE = "Read the labels of every image once: for scores in the list, orders, and filters on pose, side and bones."


def _select(label: str, options: list[Any], value: Any, names: Mapping[Any, str] | None = None) -> Any:
    return st.selectbox(
        label,
        options,
        (options.index(value) if value in options else 0) if options else None,
        format_func=lambda option: f"{label}: {(names or {}).get(option, option)}",
        label_visibility="collapsed",
        key=f"select {label}",
    )


def _place(shown: Shown, view: View, chosen: list[int]) -> int | None:
    place = shown.workspace.place.get(view.case)
    if place in chosen:
        return place
    place = chosen[0] if chosen else None
    if place is not None:
        state.change(case=shown.workspace.entries[place].name)
    return place


def _panes(shown: Shown, view: View, at: int | None) -> list[int]:
    if at is None:
        return []
    if not view.both:
        return [at]
    of_patient = shown.workspace.of_patient(shown.workspace.entries[at])
    place = of_patient.index(at)
    return of_patient[place - place % 2 : place - place % 2 + 2]


def _decided(shown: Shown, view: View) -> Decided:
    names = reviews.folders(shown.workspace, (view.first, view.second))
    return Decided(shown.workspace, {name: state.reviews(shown, name).read() for name in names})


def _rows(
    shown: Shown, view: View, known: Facts, chosen: list[int], overview: Overview | None, decided: Decided
) -> list[Row]:
    rows = []
    for n in chosen:
        entry = shown.workspace.entries[n]
        rows.append(
            Row(
                place=n,
                name=entry.name,
                score=_score(shown, known, view, n, overview),
                mark=decided.mark(entry),
                out=_out(overview, entry.name),
                pane=_panes(shown, view, n)[0],
                waits=decided.waits(entry),
                bone=_worst(shown, known, n) if view.order == "worst" else "",
            )
        )
    return rows


def _worst(shown: Shown, known: Facts, place: int) -> str:
    worst = known.worst(place)
    return shown.workspace.classes.names[worst[0]] if worst else ""


def _score(shown: Shown, known: Facts, view: View, place: int, overview: Overview | None) -> float | None:
    """What the order is about; the mean Dice where that is the name, or bones left out, which are counted beside it."""
    shown_by = view.but(order="mean") if view.order == "left_out" else view
    value = facts.number(shown.workspace, known, shown_by, place, overview)
    return float(value) if np.isfinite(value) else None


def _out(overview: Overview | None, name: str) -> str:
    """How many bones of an image were left out, in words."""
    count = overview.count(name) if overview else 0
    return f"{count:.0f} out" if count > 0 else ""


def _told(shown: Shown, known: Facts, place: int) -> str:
    entry = shown.workspace.entries[place]
    patient = shown.workspace.patients.get(entry.patient)
    words = [entry.split, patient.sex if patient else None]
    words += [kinds.get(entry.name) for name, kinds in known.kinds.items() if name == "pose"]
    missing = known.missing.get(entry.name)
    words.append(f"{plural(len(missing), 'bone')} missing" if missing else None)
    return "  ·  ".join(word for word in words if word)


def _answer(shown: Shown, message: Mapping[str, Any]) -> None:
    """Do what the workbench asked for; nothing it says is trusted to fit."""
    entries = shown.workspace.entries
    if message.get("clear"):
        state.unfilter()
    place = message.get("go")
    if isinstance(place, int) and 0 <= place < len(entries):
        state.change(case=entries[place].name, at="")
    try:
        if message.get("undo") in shown.workspace.folders:
            _undo(shown, state.reviews(shown, message["undo"]))
        elif isinstance(asked := message.get("decide"), Mapping):
            _decide(shown, asked)
    except (*REFUSALS, OSError) as error:
        st.toast(str(error), icon="⚠️")


def _undo(shown: Shown, review: Reviews) -> None:
    undone = review.undo()
    if undone is None:
        return
    if undone.image in shown.workspace.place:
        state.change(case=undone.image)
    if undone.left:
        st.toast(f"{undone.image}: somebody has decided anew on {', '.join(undone.left)}, which stays.")


def _decide(shown: Shown, asked: Mapping[str, Any]) -> None:
    image, bone, verdict, folder = (asked.get(name) for name in ("case", "bone", "verdict", "folder"))
    place = shown.workspace.place.get(str(image))
    if place is None:
        return
    view, workspace = st.session_state.view, shown.workspace
    names = reviews.folders(workspace, (view.first, view.second))
    # The screen may be older than the view by now: it is decided in the folder that was named there, or not at all.
    if not folder or folder != reviews.folder_of(workspace, names, workspace.entries[place]):
        return
    review = state.reviews(shown, str(folder))
    known = Decided(workspace, {str(folder): review.read()})
    bones = [str(bone)] if bone else known.open(workspace.entries[place])
    if bones:
        review.decide(str(image), bones, verdict)
