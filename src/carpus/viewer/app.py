"""The Streamlit script: the pages of the viewer."""

from collections.abc import Callable
from importlib import import_module

import streamlit as st

from carpus.viewer import server
from carpus.viewer.screens import style


def page(name: str) -> Callable[[], None]:
    """A page of `screens`, whose libraries are loaded when it is opened."""
    return lambda: import_module(f"carpus.viewer.screens.{name}").page()


st.set_page_config(page_title="Carpus", page_icon="✋", layout="wide", initial_sidebar_state="collapsed")
style.apply()
with_images = bool(server.shown().workspace.entries)
pages = {
    name: st.Page(
        page(name),
        title=name.capitalize(),
        url_path=name,
        default=name == ("look" if with_images else "understand"),
    )
    for name in ("look", "understand", "check", "augmentation")
}
st.session_state.pages = pages
st.navigation(list(pages.values()), position="top").run()
