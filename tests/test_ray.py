"""Prediction on a Ray cluster of several nodes."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from carpus import cluster, run, segment
from carpus.errors import ConfigError
from carpus.formats import images

pytest.importorskip("ray.data", reason="extra cluster")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_cluster_that_loses_a_node_predicts_what_one_process_does(trained: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for n in range(60):
        images.write(tmp_path / f"images/a{n:03}.png", draw.integers(0, 256, (48 + n % 3, 64), np.uint8))
    (tmp_path / "images/a007.png").write_bytes(b"not a picture")
    alone = segment.segment([run.read(trained)], tmp_path / "images", tmp_path / "alone.csv", device="cpu")
    script = Path(__file__).with_name("ray_prediction.py")
    command = [sys.executable, script, trained, tmp_path / "images", tmp_path / "ray.csv"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=590)
    assert told.returncode == 0, told.stderr[-3000:]
    found = json.loads(told.stdout.splitlines()[-1])
    assert found["killed after"]
    assert found["images"] == alone.images == 59
    assert found["faults"] == list(map(str, alone.faults))
    assert (tmp_path / "ray.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()


def test_no_cluster_is_an_error_that_says_how_to_begin_one(trained: Path, tmp_path: Path) -> None:
    images.write(tmp_path / "images/a.png", np.zeros((32, 32), np.uint8))
    by = partial(cluster.work, "127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"--ray 127\.0\.0\.1:1: no cluster answers .*ray start --head"):
        segment.segment([run.read(trained)], tmp_path / "images", tmp_path / "a.csv", by=by)
    assert not list(tmp_path.glob("a.csv*"))
