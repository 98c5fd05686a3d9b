"""The same study on several nodes, one of which is lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_study import ARMS, study

from carpus.errors import ConfigError
from carpus.study import conduct, gather, spec, tasks
from carpus.study.cluster import Cluster, _resources

pytest.importorskip("ray", reason="extra cluster")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shared", ["folder", "store"])
def test_a_lost_node_costs_no_finished_run_and_none_is_repeated(shared: str, dataset: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "tiny.yaml", tmp_path / "out"
    losses = {name: {"base": "tiny", "set": {"train": {"loss": {name: 1}}}} for name in ("focal", "jaccard", "tversky")}
    path.write_text(study({**ARMS, **losses}, train={"steps": 20, "save_every": 1}))
    script = Path(__file__).with_name("node_loss.py")
    command = [sys.executable, script, path, dataset, out, *([f"file://{tmp_path}/store"] if shared == "store" else [])]
    told = subprocess.run(command, capture_output=True, text=True, timeout=590)
    assert told.returncode == 0, told.stderr[-3000:]
    found = json.loads(told.stdout.splitlines()[-1])
    assert found["before"]
    assert len(found["at work"]) == 2
    assert found["before"].items() <= found["after"].items()
    assert found["after"].keys() == set(found["tasks"])
    assert not found["failed"]
    assert all(tasks.is_done(out, key) for key in found["tasks"])
    if shared == "folder":
        assert all(tasks.log(out, key).is_file() for key in found["tasks"])
        return
    first, second = map(set, found["on nodes"])
    assert first
    assert second
    assert first | second == set(found["tasks"])
    assert not (out / tasks.LOGS).exists()  # no node knew of this folder
    arms, notes = gather.of_study(conduct.open_(out))
    assert not notes
    assert arms["refined"].runs[0].steps == 40


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
