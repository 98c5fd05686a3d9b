"""The viewer: radiographs, labels, predictions and their differences in a browser; decisions about pseudo-labels.

`sources` says what the given paths are, and `layers` reads from them only what is shown; `selections` knows what
`carpus pseudo` found about them. `packets` makes of an image or a label map what the browser draws, `facts` what is
filtered and sorted by, `view` keeps all of what is shown in the address. `server` starts it, `app` and `screens` are
the Streamlit pages, and `static` is what draws in the browser.
"""
