"""Understand: how good which bone is, where it fails, what is taken for what, and how training went."""

from pathlib import Path

import numpy as np
import pandas
import streamlit as st

from carpus.errors import REFUSALS, DataError
from carpus.report import charts, document
from carpus.report.numbers import grouped, read_curves, read_scores
from carpus.viewer.facts import Facts
from carpus.viewer.screens import alone, state, style
from carpus.viewer.screens.tables import chosen_row
from carpus.viewer.screens.unread import unread
from carpus.viewer.server import Shown
from carpus.viewer.view import View

_WORST = 30


def page() -> None:
    """Draw the page."""
    shown, view = state.opened()
    titles = [*shown.workspace.runs, *shown.workspace.studies]
    labels = f"{view.second} against {view.first}" if view.second else f"Labels of {view.first}"
    if shown.workspace.entries and view.first:
        titles.insert(0, labels)
    if not titles:
        state.address(view)
        st.info("There are images alone. Give what labels them, too: `carpus view IMAGES sub.csv`.")
        return
    # Tabs with another default are other tabs, and would forget the click that changed it.
    first = st.session_state.get("first_tab", view.tab)
    st.session_state.first_tab = first = first if first in titles else titles[0]
    tabs = st.tabs(titles, default=first, key="tabs", on_change="rerun")
    place = next((n for n, tab in enumerate(tabs) if tab.open), 0)
    title = titles[place]
    state.address(state.change(tab=title if place else ""))
    with tabs[place]:
        try:
            if title == labels:
                _labels(shown, view)
            elif title in shown.workspace.runs:
                _run(shown, shown.workspace.runs[title])
            else:
                _study(shown.workspace.studies[title])
        except REFUSALS as error:
            st.error(str(error))


def _labels(shown: Shown, view: View) -> None:
    if not state.measured(shown, view):
        told = f"How well **{view.second}** agrees with **{view.first}**" if view.second else "Which bones are there"
        st.write(f"{told} is known once all labels were read.")
        if st.button("Measure all", type="primary"):
            state.measure(shown, view)
            st.rerun()
        return
    known = state.known(shown, view)
    unread(known.faults)
    if view.second:
        _pair(shown, view, known)
    else:
        alone.page(shown, view, known)


def _pair(shown: Shown, view: View, known: Facts) -> None:
    if not np.isfinite(known.dice).any():
        st.info(f"No image has labels in both {view.first} and {view.second}.")
        return
    columns = st.columns([1.25, 1], gap="large")
    with columns[0]:
        _by_bone(shown, view, known)
    with columns[1]:
        _worst(shown, known)
        _confused(shown, known)
        alone.pose(shown, known)


def _by_bone(shown: Shown, view: View, known: Facts) -> None:
    rows = []
    for k, name in enumerate(shown.workspace.classes):
        column = known.dice[:, k]
        there = column[np.isfinite(column)]
        low = np.quantile(there, 0.1)
        rows.append((name, there.mean(), low, there.min(), np.histogram(there, _bins(known))[0].tolist()))
    images = int(np.isfinite(known.dice).any(axis=1).sum())
    low = _bins(known)[0]
    mean = np.nanmean(known.dice)
    st.markdown(f"##### Dice by bone  \n{images} images, mean **{mean:.4f}**. Choose a bone to see its worst image.")
    k = chosen_row(
        rows,
        ["bone", "mean", "10 % below", "lowest", "distribution"],
        key="by_bone",
        height=720,
        config={
            **{name: st.column_config.NumberColumn(format="%.4f") for name in ("mean", "10 % below", "lowest")},
            "distribution": st.column_config.BarChartColumn(f"distribution, {low:.2f} to 1", y_min=0),
        },
    )
    if k is not None:
        alone.look(shown, int(np.nanargmin(known.dice[:, k])), shown.workspace.classes.names[k])


def _bins(known: Facts) -> np.ndarray:
    lowest = float(np.nanquantile(known.dice, 0.01))
    return np.linspace(np.floor(lowest * 20) / 20, 1, 21)


def _worst(shown: Shown, known: Facts) -> None:
    there = [n for n in range(len(known.dice)) if np.isfinite(known.dice[n]).any()]
    order = sorted(there, key=known.score)[:_WORST]
    rows = []
    for n in order:
        k, value = known.worst(n) or (0, np.nan)
        rows.append((shown.workspace.entries[n].name, known.score(n), shown.workspace.classes.names[k], value))
    st.markdown("##### Worst images")
    row = chosen_row(
        rows,
        ["image", "mean", "worst bone", "its Dice"],
        key="worst",
        height=230,
        config={name: st.column_config.NumberColumn(format="%.4f") for name in ("mean", "its Dice")},
    )
    if row is not None:
        alone.look(shown, order[row], rows[row][2])


def _confused(shown: Shown, known: Facts) -> None:
    pairs = known.confusions.pairs() if known.confusions else []
    if not pairs:
        return
    st.markdown("##### Bones taken for others")
    row = chosen_row(
        pairs,
        ["bone", "other", "taken, px", "overlap wrong, px", "overlap's Dice"],
        key="confused",
        height=230,
        config={"overlap's Dice": st.column_config.NumberColumn(format="%.3f")},
    )
    if row is not None:
        first, second = pairs[row][:2]
        both = known.dice[:, [shown.workspace.classes.index(name) for name in (first, second)]]
        place = int(np.nanargmin(np.nansum(both, axis=1) + np.where(np.isfinite(both).all(axis=1), 0, 9)))
        alone.look(shown, place, first, f"{first},{second}")


def _run(shown: Shown, path: Path) -> None:
    from carpus import evaluate
    from carpus.breakdown import by_class

    classes = shown.workspace.classes
    left, right = st.columns(2, gap="large")
    if (path / "scores.csv").is_file():
        table = evaluate.load(path)
        # A study tells the parts of a test apart; here they are one.
        tests = table["split"].isin(("public", "private"))
        scores = read_scores(table.assign(split=table["split"].mask(tests, "test")), classes)
        with left:
            st.markdown("##### Dice by bone")
            style.chart(charts.dice_by_class(scores, grouped(classes)))
    else:
        left.info(f"No scores yet: `carpus evaluate {path} --data DATA` makes them.")
        table = None
    with right:
        if (path / "metrics.csv").is_file():
            try:
                curves = read_curves(pandas.read_csv(path / "metrics.csv"))
            except (OSError, ValueError) as error:
                raise DataError(f"{path / 'metrics.csv'}: not a readable table ({error})") from error
            st.markdown("##### Learning curves")
            style.chart(charts.learning(curves))
        if table is not None:
            split = table["split"].iloc[-1]
            listing = by_class(table[table["split"] == split], classes)
            st.markdown(f"##### {listing.title}, {split}")
            st.dataframe(
                pandas.DataFrame([list(row) for row in listing.rows], columns=list(listing.columns)),
                hide_index=True,
                height=420,
            )


def _study(path: Path) -> None:
    page = path / "report.html"
    if not page.is_file():
        st.info(f"{path}: has no report yet: `carpus study report {path}` makes it.")
        return
    st.iframe(document.dark(page.read_text(encoding="utf-8")), height=900)
