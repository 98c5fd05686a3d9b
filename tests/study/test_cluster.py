"""The same study on several nodes, one of which is lost."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_study import ARMS, BROKEN, study

from carpus.errors import ConfigError
from carpus.study import cluster, conduct, gather, spec, tasks
from carpus.study.cluster import Cluster, _resources

pytest.importorskip("ray", reason="extra cluster")


LOSSES = {name: {"base": "tiny", "set": {"train": {"loss": {name: 1}}}} for name in ("focal", "jaccard", "tversky")}


def lose_a_node(arms: dict[str, dict[str, object]], root: Path, out: Path, *store: str) -> dict[str, Any]:
    """What `node_loss.py` tells of a study, of which no finished run was lost or repeated."""
    path = out.with_name("tiny.yaml")
    path.write_text(study(arms, train={"steps": 20, "save_every": 1}))
    command = [sys.executable, Path(__file__).with_name("node_loss.py"), path, root, out, *store]
    told = subprocess.run(command, capture_output=True, text=True, timeout=590)
    assert told.returncode == 0, told.stderr[-3000:]
    found = json.loads(told.stdout.splitlines()[-1])
    assert found["before"]
    assert len(found["at work"]) == 2
    assert found["before"].items() <= found["after"].items()
    assert found["after"].keys() | found["failed"].keys() == set(found["tasks"])
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_lost_node_costs_no_finished_run_and_none_is_repeated(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = lose_a_node({**ARMS, **LOSSES}, dataset, out)
    assert not found["failed"]
    assert all(tasks.is_done(out, key) for key in found["tasks"])
    assert all(tasks.log(out, key).is_file() for key in found["tasks"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nodes_that_share_nothing_but_a_store_make_one_study(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arms = {**ARMS, **LOSSES, "broken": BROKEN["broken"]}
    found = lose_a_node(arms, dataset, out, f"file://{tmp_path}/store")
    assert [why.partition(":")[0] for why in found["failed"].values()] == ["ConfigError"]
    assert "Traceback" in tasks.note(out, *found["failed"]).read_text()
    first, second = map(set, found["on nodes"])
    assert first
    assert second
    assert first | second >= found["after"].keys()
    assert not (out / tasks.LOGS).exists()  # no node knew of this folder, and the run that failed printed nothing
    gathered, notes = gather.of_study(conduct.open_(out))
    whole, broken = notes
    assert whole == f"Not all runs are in: 1 failed of {len(arms)}. What is below is of the others."
    assert broken.startswith("broken failed (seed 0, fold 0): ConfigError: train.batch_size: 3 images cannot be cut")
    assert gathered["refined"].runs[0].lineage.steps == 40


def test_the_log_of_a_failure_comes_from_a_node_that_shares_nothing_but_a_store(tmp_path: Path) -> None:
    path, out, url = tmp_path / "tiny.yaml", tmp_path / "out", f"file://{tmp_path}/store"
    path.write_text(study(ARMS))
    task = next(iter(tasks.work(spec.load(path), path, "quick", seeds=1, folds=[0]).tasks.values()))
    # As on a node: in a process of its own, whose output goes to the log, after one that was lost.
    worker = (
        "import pickle, sys; from carpus.study import cluster, tasks; from carpus.study.store import Store\n"
        "task, root, out, url, told = pickle.load(sys.stdin.buffer)\n"
        "tasks.print_to_log(Store(url).scratch(), task.key); print('of the one before', flush=True)\n"
        "told.write_bytes(pickle.dumps(cluster._perform(task, root, out, url)))\n"
    )
    given = pickle.dumps((task, tmp_path / "no data", out, url, tmp_path / "told"))
    (tmp_path / "node").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "node")}
    subprocess.run([sys.executable, "-c", worker], input=given, env=environment, check=True)
    failed = pickle.loads((tmp_path / "told").read_bytes())
    assert not out.exists()
    assert cluster._keep(out, task.key, failed).startswith("DataError: ")
    assert "Traceback" in tasks.note(out, task.key).read_text()
    assert "of the one before" in tasks.log(out, task.key).read_text()


def test_workers_have_not_imported_numba_before_they_are_told_its_threads() -> None:
    code = "import sys, carpus.study.cluster; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_run_asks_for_no_more_than_a_node_has(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(study(ARMS, data={"workers": 4}))
    (task, *_) = tasks.work(spec.load(path), path, "quick", seeds=1, folds=[0]).tasks.values()
    small, large = {"CPU": 1.0, "GPU": 1.0}, {"CPU": 3.0, "GPU": 2.0}
    assert _resources(task, [small]) == {"num_gpus": 1, "num_cpus": 1}
    assert _resources(task, [small, large, {"CPU": 64.0}]) == {"num_gpus": 1, "num_cpus": 3}
    assert _resources(task, [{"CPU": 64.0, "GPU": 8.0}]) == {"num_gpus": 1, "num_cpus": 4}
    assert _resources(task, [{"GPU": 1.0}]) == {"num_gpus": 1, "num_cpus": 0}
    assert _resources(task, [{"CPU": 64.0}]) == {"num_cpus": 1}


def test_a_cluster_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--ray 127\.0\.0\.1:1: no cluster answers"):
        conduct.conduct(
            tasks.Work({"a": None}, ()),  # type: ignore[dict-item]
            tmp_path,
            lambda: Cluster("127.0.0.1:1", tmp_path, tmp_path),
        )
