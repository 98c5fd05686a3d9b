"""How the pages look beside the workbench: dense, and charts in the report's manner."""

from functools import cache
from typing import Any

import streamlit as st
from streamlit.components import v2

from carpus.report import document
from carpus.report.markup import Markup

_PAGE = """
[data-testid="stMainBlockContainer"] { padding: 3.5rem 1rem .5rem; max-width: none; }
[data-testid="stVerticalBlock"] { gap: .55rem; }
[data-testid="stHeader"] { background: #0e1114; height: 3rem; min-height: 3rem; }
"""

# The frame of a page that has the focus, which it gets by a click on anything without one of its own.
_FRAME = '[data-testid="stMain"]::before { display: none; }'

_CHART = """
.chart { max-width: 34rem; --paper: #0e1114; --ink: #dfe4e9; --soft: #9aa5b0; --rule: #2a3038; --faint: #1b2127;
  --val: #58b4ee; --test: #ff9a4d; --train: #6d7883; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
"""


def apply() -> None:
    """Put the style sheet into the page."""
    st.html(f"<style>{_PAGE}{_FRAME}</style>")


def chart(svg: Markup) -> None:
    """Show a chart of `report.charts`, whose text is escaped."""
    _component()(data=str(svg))


@cache
def _component() -> Any:
    # st.html takes SVG for something unsafe and drops it.
    return v2.component(
        "carpus_chart",
        html='<div class="chart"></div>',
        css=_CHART + document.figure_rules(),
        js="export default ({ data, parentElement }) => { parentElement.querySelector('.chart').innerHTML = data; };",
    )
