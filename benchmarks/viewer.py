"""The viewer in a real browser: its start, the first image of 800, the next ones, and memory over 500.

    python -m benchmarks.viewer [--images 800] [--walk 500] [--size 2048] [--quick]

A few phantoms are linked under many names: what is read and drawn is the same as of as many images. Next is the time
from the key to the picture on the screen with its labels, after a look of `LOOK_S` at the one before. Memory is the
resident set of the server, and that of the browser's processes together. The load of the machine is printed, because a
busy one makes all of it slower; processor seconds are nearly the same on either.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from carpus import phantom

LOOK_S = 0.3


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=800)
    arguments.add_argument("--walk", type=int, default=500)
    arguments.add_argument("--size", type=int, default=2048)
    arguments.add_argument("--quick", action="store_true", help="whether it runs, rather than how fast")
    arguments.add_argument("--data", type=Path, help="a data folder whose training images are linked")
    given = arguments.parse_args()
    if given.quick:
        given.images, given.walk, given.size = 8, 6, 512
    with tempfile.TemporaryDirectory() as folder:
        source = given.data or Path(folder) / "source"
        if not given.data:
            phantom.write(source, patients=4, test_patients=1, size=given.size)
        root = Path(folder) / "data"
        link(source, root, given.images)
        print(json.dumps(measure(root, given.walk), indent=2))


def link(source: Path, root: Path, count: int) -> None:
    """A data folder of `count` training images, two a patient, all of them links to those of `source`."""
    images = sorted((source / "train/DCM").rglob("*.png"))
    for n in range(count):
        image = images[n % len(images)]
        annotation = source / "train/outputs_json" / image.parent.name / f"{image.stem}.json"
        for path, part, suffix in ((image, "DCM", "png"), (annotation, "outputs_json", "json")):
            target = root / "train" / part / f"ID{n // 2 + 1:03d}" / f"image{n:05d}.{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, target)
            except OSError:  # another disk
                shutil.copy(path, target)
    for table in source.glob("meta_data.*"):
        shutil.copy(table, root)


def measure(root: Path, walk: int) -> dict[str, Any]:
    """Seconds and MiB."""
    from playwright.sync_api import sync_playwright

    load = os.getloadavg()[0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "carpus.cli", "view", str(root), "--no-browser", "--port", str(port)]
    begun = time.perf_counter()
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                urlopen(f"{address}/_stcore/health").close()
                break
            except OSError:
                time.sleep(0.02)
        started = time.perf_counter() - begun
        processor = {"the server answers": _processor_s([server.pid])}
        with sync_playwright() as playwright:
            path = shutil.which("chromium")
            page = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"]).new_page()
            page.set_viewport_size({"width": 1440, "height": 900})
            page.set_default_timeout(300_000)
            server_s, browser_s = _processor_s([server.pid]), _processor_s(_browser(server.pid))
            begun = time.perf_counter()
            page.goto(address)
            page.wait_for_selector(".stage[data-shown]")
            first = time.perf_counter() - begun
            processor["the first image, of the server"] = _processor_s([server.pid]) - server_s
            processor["the first image, of the browser"] = _processor_s(_browser(server.pid)) - browser_s
            page.evaluate(_WATCH)
            steps, memory = [], {0: _memory_mib([server.pid])}
            browser_memory = {0: _memory_mib(_browser(server.pid))}
            server_s, browser_s = _processor_s([server.pid]), _processor_s(_browser(server.pid))
            for n in range(1, walk + 1):
                time.sleep(LOOK_S)
                steps.append(page.evaluate("window.carpusNext()"))
                if n % 50 == 0 or n == walk:
                    memory[n] = _memory_mib([server.pid])
                    browser_memory[n] = _memory_mib(_browser(server.pid))
            processor["a next image, of the server"] = (_processor_s([server.pid]) - server_s) / walk
            processor["a next image, of the browser"] = (_processor_s(_browser(server.pid)) - browser_s) / walk
    finally:
        server.terminate()
        server.wait(30)
    return {
        "processors": os.cpu_count(),
        "load before, after": [round(load, 1), round(os.getloadavg()[0], 1)],
        "server answers, s": round(started, 2),
        "first image, s": round(first, 2),
        "next image, s": {
            "median": round(statistics.median(steps), 3),
            "90 % below": round(sorted(steps)[int(0.9 * len(steps))], 3),
            "longest": round(max(steps), 3),
        },
        "processor seconds until": {name: round(seconds, 2) for name, seconds in processor.items()},
        "server's memory, MiB, by images seen": memory,
        "browser's memory, MiB, by images seen": browser_memory,
    }


_WATCH = """
() => {
  const find = () => [...document.querySelectorAll("*")].map((e) => e.shadowRoot?.querySelector(".stage")).find(Boolean)
    || document.querySelector(".stage");
  window.carpusNext = () => new Promise((done) => {
    const stage = find(), before = stage.dataset.shown, begun = performance.now();
    const look = () => stage.dataset.shown !== before
      ? requestAnimationFrame(() => requestAnimationFrame(() => done((performance.now() - begun) / 1000)))
      : setTimeout(look, 4);
    window.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
    look();
  });
}
"""


def _browser(server: int) -> list[int]:
    """The processes that this one started, and those they started, without the server's."""
    found, left = [], [os.getpid()]
    while left:
        threads = sorted(Path(f"/proc/{left.pop()}/task").glob("*/children"))
        children = [int(child) for thread in threads for line in _lines(thread) for child in line.split()]
        begun = [child for child in children if child != server]
        found += begun
        left += begun
    return found


def _memory_mib(processes: list[int]) -> int:
    lines = [line for process in processes for line in _lines(Path(f"/proc/{process}/status"))]
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) >> 10


def _processor_s(processes: list[int]) -> float:
    stats = [line.rsplit(")", 1)[1].split() for process in processes for line in _lines(Path(f"/proc/{process}/stat"))]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:  # it ended meanwhile
        return []


if __name__ == "__main__":
    main()
