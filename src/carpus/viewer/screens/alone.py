"""What is known of the labels of one source: how many there are, which bones are missing, how the hands lie."""

from collections import Counter

import numpy as np
import streamlit as st

from carpus.report import charts
from carpus.report.findings import plural
from carpus.report.numbers import Poses
from carpus.viewer.facts import Facts
from carpus.viewer.screens import state, style
from carpus.viewer.screens.tables import chosen_row
from carpus.viewer.server import Shown
from carpus.viewer.view import View

_TABLES = ("by_bone", "worst", "confused", "bones", "incomplete")


def page(shown: Shown, view: View, known: Facts) -> None:
    """Draw what is known of the first layer."""
    if not known.missing:
        st.info(f"No image has labels in {view.first}.")
        return
    columns = st.columns([1, 1.25], gap="large")
    with columns[0]:
        _bones(shown, known)
    with columns[1]:
        _incomplete(shown, known)
        _kinds(shown, known)
        pose(shown, known)


def _bones(shown: Shown, known: Facts) -> None:
    entries = shown.workspace.entries
    lacking = Counter(bone for missing in known.missing.values() for bone in missing)
    patients = len({entry.patient for entry in entries if entry.name in known.missing})
    st.markdown(
        f"##### Bones  \n{len(known.missing)} of {plural(len(entries), 'image')} have labels, of "
        f"{plural(patients, 'patient')}. Choose a bone to see an image that lacks it."
    )
    order = sorted(shown.workspace.classes, key=lambda bone: -lacking[bone])
    rows = [(bone, len(known.missing) - lacking[bone], lacking[bone]) for bone in order]
    k = chosen_row(rows, ["bone", "labelled", "missing"], key="bones", height=720)
    if k is not None and rows[k][2]:
        bone = order[k]
        place = next(n for n, entry in enumerate(entries) if bone in known.missing.get(entry.name, ()))
        look(shown, place, bone)


def _incomplete(shown: Shown, known: Facts) -> None:
    """Images of which bones are missing, most first."""
    rows = [(name, len(missing), ", ".join(missing)) for name, missing in known.missing.items() if missing]
    st.markdown("##### Images with missing bones")
    if not rows:
        st.caption("None: every labelled image has all bones.")
        return
    rows.sort(key=lambda row: -row[1])
    row = chosen_row(rows, ["image", "missing", "bones"], key="incomplete", height=230)
    if row is not None:
        name = rows[row][0]
        look(shown, shown.workspace.place[name], known.missing[name][0])


def _kinds(shown: Shown, known: Facts) -> None:
    """How many images there are of which kind, by split."""
    splits = sorted({entry.split for entry in shown.workspace.entries}, reverse=True)
    split_of = {entry.name: entry.split for entry in shown.workspace.entries}
    rows = []
    for kind, values in known.kinds.items():
        counts = Counter((value, split_of[name]) for name, value in values.items())
        for value in sorted(set(values.values())):
            rows.append((kind, value, *(counts[value, split] for split in splits)))
    if rows:
        st.markdown("##### Images by kind")
        st.dataframe(
            [dict(zip(("kind", "value", *(split or "images" for split in splits)), row, strict=True)) for row in rows],
            hide_index=True,
        )


def pose(shown: Shown, known: Facts) -> None:
    """Draw how far hands are bent to the side, by split."""
    splits = {entry.name: entry.split for entry in shown.workspace.entries}
    names = [name for name, angle in known.axes.items() if np.isfinite(angle) and splits[name]]
    if not names:
        return
    degrees = np.abs(np.array([known.axes[name] for name in names]))
    st.markdown("##### Pose")
    style.chart(charts.pose_histogram(Poses(tuple(names), tuple(splits[name] for name in names), degrees)))


def look(shown: Shown, place: int, bone: str, bones: str = "") -> None:
    """Go to the picture. What was chosen in a table is forgotten, so that coming back does not jump again."""
    for key in _TABLES:
        st.session_state.pop(key, None)
    state.unfilter(case=shown.workspace.entries[place].name, chosen=bone, bones=bones, at="")
    st.switch_page(st.session_state.pages["look"])
