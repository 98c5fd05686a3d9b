"""Check: what is wrong with a data set, each finding with its picture."""

import re

import streamlit as st

from carpus.check import Finding, check
from carpus.errors import REFUSALS
from carpus.labels import Classes
from carpus.viewer.screens import state
from carpus.viewer.screens.tables import chosen_row
from carpus.viewer.server import Shown
from carpus.viewer.view import View
from carpus.viewer.workbench import Row, workbench

_LEVELS = ("error", "warning", "note")

# In pixels: a row as the theme's font has it, room for the bar that moves the columns, and the height of many findings.
_ROW, _BAR, _TALLEST = 31, 14, 560
# What is wrong is read at 1280 pixels without moving the columns; the image is said below the table, too.
_KIND_WIDTH, _WHAT_WIDTH = 82, 270


def page() -> None:
    """Draw the page."""
    shown, view = state.opened()
    folders = list(shown.workspace.folders)
    if not folders:
        state.address(view)
        st.info("There is no data folder to check: `carpus view DATA`.")
        return
    left, right = st.columns([1, 1.9], gap="small")
    with left:
        name = view.folder if view.folder in folders else folders[0]
        if len(folders) > 1:
            name = st.selectbox("Data", folders, folders.index(name), label_visibility="collapsed", key="folder")
        view = state.change(folder="" if name == folders[0] else name)
        found: list[Finding] | None = shown.kept.get(("check", name))
        if found is None:
            state.address(view)
            st.write(f"Every image and annotation of **{name}** is read once and held against the anatomy.")
            if st.button("Check", type="primary"):
                shown.kept["check", name] = _check(shown, name)
                st.rerun()
            return
        finding = _findings(found, view, name)
    with right:
        _picture(shown, st.session_state.view, name, finding)


def _check(shown: Shown, name: str) -> list[Finding]:
    bar = st.progress(0.0, "Checking")
    try:
        return check(
            shown.workspace.folders[name],
            classes=shown.workspace.classes,
            progress=lambda done, total: bar.progress(done / total, f"Checking: {done} of {total}"),
        )
    except REFUSALS as error:
        st.error(str(error))
        st.stop()
    finally:
        bar.empty()


def _findings(found: list[Finding], view: View, name: str) -> Finding | None:
    """The table; returns the finding that is chosen, at the beginning that of the view, or the first."""
    if not found:
        st.success("Nothing found.")
        return None
    counts = {level: sum(finding.severity == level for finding in found) for level in _LEVELS}
    usual = [level for level in ("error", "warning") if counts[level]] or ["note"]
    asked = [level for level in _LEVELS if level in view.levels.split(",")]
    levels = st.pills(
        "Severity",
        list(_LEVELS),
        selection_mode="multi",
        default=asked or usual,
        format_func=lambda level: f"{counts[level]} {level}{'' if counts[level] == 1 else 's'}",
        label_visibility="collapsed",
        key=f"levels of {name}",
    )
    listed = [finding for finding in found if finding.severity in levels]
    row = chosen_row(
        [(f.kind, f.message, f.bone or "", f.case) for f in listed],
        ["kind", "what", "bone", "image"],
        # Another list has another choice.
        key=f"findings of {name}, {' '.join(levels)}",
        height=min(_TALLEST, _ROW * (1 + len(listed)) + _BAR),
        config={
            "kind": st.column_config.TextColumn(width=_KIND_WIDTH),
            "what": st.column_config.TextColumn(width=_WHAT_WIDTH),
        },
    )
    finding = _start(listed, view) if row is None else listed[row]
    state.change(levels="" if levels == usual else ",".join(level for level in _LEVELS if level in levels))
    if finding:
        state.change(case=finding.case, chosen=finding.bone or "", at="")
        st.caption(f"**{finding.kind}** · {finding.case} · {finding.message}")
    return finding


def _start(listed: list[Finding], view: View) -> Finding | None:
    """The finding that a link is to: of its image and bone, else of its image, else the first of all."""
    of_image = [finding for finding in listed if finding.case == view.case]
    of_bone = [finding for finding in of_image if (finding.bone or "") == view.chosen]
    return next(iter([*of_bone, *of_image, *listed]), None)


def _picture(shown: Shown, view: View, name: str, finding: Finding | None) -> None:
    if finding is None:
        state.address(view)
        return
    place = shown.workspace.place.get(finding.case)
    if place is None:
        state.address(view)
        st.info(f"{finding.case}: is no image that can be shown. {finding.message}")
        return
    picked = view.but(first=name, second="", bones="", at="", both=False)
    workbench(
        shown.workspace,
        picked,
        [place],
        [Row(place, finding.case, None, "", "", place)],
        told=lambda message: None,
        narrow=True,
        key="check",
        notes={finding.case: finding.message},
        near=_named(finding, shown.workspace.classes),
        address=view,
    )


def _named(finding: Finding, classes: Classes) -> list[str]:
    """The bones of a finding: the one that it is about, and those that its message names."""
    words = re.findall(r"[\w-]+", finding.message)
    return [bone for bone in classes if bone == finding.bone or (finding.bone and bone in words)]
