"""Check: what is wrong with a data set, each finding with its picture."""

import streamlit as st

from carpus.check import Finding, check
from carpus.errors import REFUSALS
from carpus.viewer.screens import state
from carpus.viewer.screens.tables import chosen_row
from carpus.viewer.server import Shown
from carpus.viewer.view import View
from carpus.viewer.workbench import Row, workbench

_LEVELS = ("error", "warning", "note")


def page() -> None:
    """Draw the page."""
    shown, view = state.opened()
    folders = shown.workspace.folders
    if not folders:
        state.address(view)
        st.info("There is no data folder to check: `carpus view DATA`.")
        return
    left, right = st.columns([1, 1.9], gap="small")
    with left:
        name = (
            st.selectbox("Data", list(folders), label_visibility="collapsed")
            if len(folders) > 1
            else next(iter(folders))
        )
        found: list[Finding] | None = shown.kept.get(("check", name))
        if found is None:
            state.address(view)
            st.write(f"Every image and annotation of **{name}** is read once and held against the anatomy.")
            if st.button("Check", type="primary"):
                shown.kept["check", name] = _check(shown, name)
                st.rerun()
            return
        finding = _findings(found)
    with right:
        _picture(shown, view, name, finding)


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


def _findings(found: list[Finding]) -> Finding | None:
    """The table; returns the finding that is chosen, the first of all at the beginning."""
    if not found:
        st.success("Nothing found.")
        return None
    counts = {level: sum(finding.severity == level for finding in found) for level in _LEVELS}
    levels = st.pills(
        "Severity",
        list(_LEVELS),
        selection_mode="multi",
        default=[level for level in ("error", "warning") if counts[level]] or ["note"],
        format_func=lambda level: f"{counts[level]} {level}{'' if counts[level] == 1 else 's'}",
        label_visibility="collapsed",
    )
    listed = [finding for finding in found if finding.severity in levels]
    row = chosen_row(
        [(f.severity, f.kind, f.bone or "", f.case, f.message) for f in listed],
        ["level", "kind", "bone", "image", "what"],
        key="findings",
        height=560,
        config={"level": st.column_config.TextColumn(width=58), "kind": st.column_config.TextColumn(width=82)},
    )
    finding = next(iter(listed), None) if row is None else listed[row]
    if finding:
        st.caption(f"**{finding.kind}** · {finding.case} · {finding.message}")
    return finding


def _picture(shown: Shown, view: View, name: str, finding: Finding | None) -> None:
    if finding is None:
        state.address(view)
        return
    place = shown.workspace.place.get(finding.case)
    if place is None:
        state.address(view)
        st.info(f"{finding.case}: is no image that can be shown. {finding.message}")
        return
    picked = view.but(case=finding.case, first=name, second="", chosen=finding.bone or "", bones="", at="", both=False)
    workbench(
        shown.workspace,
        picked,
        [place],
        [Row(place, finding.case, None, "", "", place)],
        told=lambda message: None,
        narrow=True,
        key="check",
        notes={finding.case: finding.message},
        address=view.but(case=finding.case),
    )
