"""Serves the viewer: Streamlit for the pages, and beside it the packets that the browser draws from.

Nothing here leaves the machine: the address is this machine's own unless told otherwise, requests that come under
another name are refused, nothing is sent to Streamlit's makers, and no page asks for a file of another site.
"""

import importlib
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from carpus.errors import REFUSALS, ConfigError
from carpus.viewer.packets import Packets
from carpus.viewer.sources import Workspace

STATIC = Path(__file__).with_name("static")

_LOOPBACK = ("127.0.0.1", "localhost", "::1")

_TYPES = {".js": "text/javascript", ".css": "text/css"}

SETTINGS: dict[str, Any] = {
    "server.headless": True,
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "minimal",
    "theme.base": "dark",
    "theme.primaryColor": "#4cc2e6",
    "theme.backgroundColor": "#0e1114",
    "theme.secondaryBackgroundColor": "#171b20",
    "theme.textColor": "#dfe4e9",
    "theme.borderColor": "#2a3038",
    "theme.baseRadius": "small",
    "theme.baseFontSize": 14,
}
"""Streamlit's settings, by their dotted names."""


class Shown:
    """What this process shows: one workspace, its packets, and what was found out about it so far."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.packets = Packets(workspace)
        self.kept: dict[Any, Any] = {}
        """Tables that take time to make, by what they are of."""
        self.looked_at = threading.Event()
        """Set when the first labels were sent; what can wait is loaded after that."""


_shown: Shown | None = None


def show(workspace: Workspace) -> Shown:
    """Make `workspace` what this process shows."""
    global _shown
    _shown = Shown(workspace)
    return _shown


def shown() -> Shown:
    """What this process shows."""
    assert _shown is not None, "server.show comes first"
    return _shown


def serve(workspace: Workspace, *, host: str = "127.0.0.1", port: int = 8501, browser: bool = False) -> None:
    """Serve the viewer until it is interrupted.

    Args:
        workspace: what to show.
        host: the address to listen at; that of this machine alone by default.
        port: the port.
        browser: open a browser when it answers.

    Raises:
        ConfigError: Streamlit is not installed.
    """
    try:
        import streamlit as st
    except ImportError:
        raise ConfigError("view: Streamlit is missing; pip install 'carpus[viewer]'") from None
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    now = show(workspace)
    threading.Thread(target=_warm, args=(now,), daemon=True).start()
    if browser:
        threading.Thread(target=_open, args=(host, port), daemon=True).start()
    guard = [Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])]
    app = st.App(Path(__file__).with_name("app.py"), routes=_routes(), middleware=guard if host in _LOOPBACK else [])
    app.run(config=SETTINGS | {"server.address": host, "server.port": port})


def _warm(now: Shown) -> None:
    """Load what the first picture needs while the browser is still on its way, then what other pages need."""
    importlib.import_module("carpus.viewer.screens.look")

    layer = next(iter(now.workspace.folders), None)
    if now.workspace.entries:
        # A file that cannot be read says so when it is shown.
        with suppress(*REFUSALS):
            _ = now.workspace.patients
            now.packets.image(0)
            if layer:
                now.packets.labels(layer, 0)
    now.looked_at.wait()
    if now.workspace.runs:
        importlib.import_module("carpus.evaluate")


def _open(host: str, port: int) -> None:
    """Open a browser as soon as somebody listens; after half a minute nobody will."""
    import socket
    import time
    import webbrowser

    for _ in range(300):
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            webbrowser.open(f"http://{host}:{port}")
            return


def _routes() -> list[Any]:
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

    def answer(make: Callable[[Request], Response]) -> Callable[[Request], Response]:
        # A plain function, which Starlette runs in a thread of its own.
        def endpoint(request: Request) -> Response:
            try:
                response = make(request)
            except REFUSALS as error:
                response = PlainTextResponse(str(error), 422)
            # Radiographs have no place in the browser's cache on disk, nor on other sites' pages.
            response.headers["Cache-Control"] = "no-store"
            response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
            response.headers["X-Content-Type-Options"] = "nosniff"
            return response

        return endpoint

    def octets(content: bytes | None) -> Response:
        # Compressing 4 MiB takes longer than the loopback takes for them, and Streamlit would.
        as_it_is = {"Content-Encoding": "identity"}
        return Response(content, 204 if content is None else 200, as_it_is, "application/octet-stream")

    def image(request: Request) -> Response:
        return octets(shown().packets.image(request.path_params["place"]))

    def labels(request: Request) -> Response:
        found = shown().packets.labels(request.query_params.get("layer", ""), request.path_params["place"])
        shown().looked_at.set()
        return octets(found)

    def doubt(request: Request) -> Response:
        return octets(shown().packets.doubt(request.query_params.get("layer", ""), request.path_params["place"]))

    def compare(request: Request) -> Response:
        asked = request.query_params
        first, second = asked.get("first", ""), asked.get("second", "")
        return JSONResponse(shown().packets.compare(first, second, request.path_params["place"]))

    def static(request: Request) -> Response:
        path = STATIC / request.path_params["name"]
        if path.suffix not in _TYPES or path.parent != STATIC or not path.is_file():
            return PlainTextResponse("not found", 404)
        return Response(path.read_bytes(), media_type=_TYPES[path.suffix])

    endpoints = {
        "image/{place:int}": image,
        "labels/{place:int}": labels,
        "doubt/{place:int}": doubt,
        "compare/{place:int}": compare,
        "static/{name}": static,
    }
    return [Route(f"/carpus/{path}", answer(endpoint)) for path, endpoint in endpoints.items()]
