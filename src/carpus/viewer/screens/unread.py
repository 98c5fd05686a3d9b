"""What could not be read, where the rest of it is shown."""

from collections.abc import Sequence

import streamlit as st

from carpus.report.findings import plural

_LISTED = 50


def unread(faults: Sequence[str]) -> None:
    """A button that opens the list of faults, each in its reader's words; nothing where there are none."""
    if not faults:
        return
    with st.popover(f"{plural(len(faults), 'file')} not read", icon=":material/warning:", width="stretch"):
        # Plain text: the name of a file is no markup.
        for fault in faults[:_LISTED]:
            st.text(fault)
        if len(faults) > _LISTED:
            st.text(f"and {len(faults) - _LISTED} more; `carpus check` names every one")
