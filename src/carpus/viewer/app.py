"""The Streamlit script: the pages of the viewer."""

import streamlit as st

from carpus.viewer import server
from carpus.viewer.screens import augmentation, check, look, style, understand

st.set_page_config(page_title="Carpus", page_icon="✋", layout="wide", initial_sidebar_state="collapsed")
style.apply()
with_images = bool(server.shown().workspace.entries)
pages = {
    "look": st.Page(look.page, title="Look", url_path="look", default=with_images),
    "understand": st.Page(understand.page, title="Understand", url_path="understand", default=not with_images),
    "check": st.Page(check.page, title="Check", url_path="check"),
    "augmentation": st.Page(augmentation.page, title="Augmentation", url_path="augmentation"),
}
st.session_state.pages = pages
st.navigation(list(pages.values()), position="top").run()
