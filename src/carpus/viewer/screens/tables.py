"""Tables of which a click anywhere on a row chooses it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas
import streamlit as st


def chosen_row(
    rows: Sequence[Sequence[Any]],
    columns: Sequence[str],
    *,
    key: str,
    height: int,
    config: Mapping[str, Any] | None = None,
) -> int | None:
    """Show a table.

    Args:
        rows, columns: what stands in it.
        key: what the session remembers its choice by.
        height: in pixels.
        config: how columns are shown, by name.

    Returns:
        The number of the chosen row, None as long as there is none.
    """
    event: Any = st.dataframe(
        pandas.DataFrame(rows, columns=list(columns)),
        hide_index=True,
        height=height,
        on_select="rerun",
        # Of a row only the box before it could be clicked; a cell is clicked anywhere, and arrow keys move on.
        selection_mode="single-cell",
        key=key,
        column_config=dict(config or {}),
    )
    row = event.selection.cells[0][0] if event.selection.cells else None
    # The choice may be of a longer table that stood here before.
    return row if row is not None and row < len(rows) else None
