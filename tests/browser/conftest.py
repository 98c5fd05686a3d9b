"""The viewer in a real browser, Debian's Chromium."""

import io
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import planted_data
import pytest
from PIL import Image

SIZES = {"desktop": {"width": 1440, "height": 900}, "laptop": {"width": 1280, "height": 720}}

PATIENCE_MS = 90_000
"""Machines that run several tests at once are slow; no test measures time."""


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `planted_data.make`."""
    return planted_data.make(tmp_path_factory.mktemp("viewer") / "data")


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., str]]:
    """Start `carpus view` with arguments; gives the address it answers at."""
    started = []

    def start(*arguments: Path | str) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "carpus.cli",
            "view",
            *map(str, arguments),
            "--no-browser",
            "--port",
            str(port),
        ]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        address = f"http://127.0.0.1:{port}"
        for _ in range(PATIENCE_MS // 200):
            try:
                urlopen(f"{address}/_stcore/health").close()
            except OSError:
                time.sleep(0.2)
            else:
                return address
        raise TimeoutError(f"{command}: does not answer")

    yield start
    for process in started:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def address(serve: Callable[..., str], planted: Path) -> str:
    return serve(planted, planted.parent / "sub.csv")


@pytest.fixture(scope="session")
def pseudo(planted: Path) -> Path:
    """See `planted_data.pseudo`."""
    return planted_data.pseudo(planted)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium in PATH")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open an address; afterwards no page may have asked another site for anything, nor have had a fault."""
    pages, faults = [], []

    def asked(request: Any) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "blob:", "data:")):
            faults.append(f"asked {request.url}")

    def open_address(address: str, size: str = "desktop") -> Any:
        page = chromium.new_page(viewport=SIZES[size])
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", asked)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(address)
        pages.append(page)
        return page

    yield open_address
    for page in pages:
        page.close()
    assert not faults


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[Any, str], Path]:
    """Keep a screenshot: in docs/pictures where CARPUS_PICTURES is set, which is how those were made."""
    folder = Path(__file__).parents[2] / "docs/pictures" if os.environ.get("CARPUS_PICTURES") else tmp_path

    def keep(page: Any, name: str) -> Path:
        page.wait_for_timeout(600)  # what fades in has come
        path = folder / f"{name}.webp"
        Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(path, quality=84, method=6)
        return path

    return keep
