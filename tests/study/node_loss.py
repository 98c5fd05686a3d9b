"""A study on three Ray nodes of which one is killed in the middle: `python node_loss.py STUDY DATA OUT` prints JSON."""

import json
import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster as Nodes

from carpus import run
from carpus.study import conduct, spec, tasks
from carpus.study.cluster import Cluster


def finished(out: Path) -> dict[str, int]:
    done = [path.parent for path in out.glob(f"{tasks.RUNS}/*/{tasks.DONE}")]
    return {folder.name: (folder / tasks.DONE).stat().st_mtime_ns for folder in done}


def at_work(out: Path, work: tasks.Work) -> list[str]:
    folders = {key: tasks.folder(out, key) for key in work.tasks if not tasks.is_done(out, key)}
    return [key for key, of in folders.items() if list((of / run.STATE).glob("[0-9]*.safetensors"))]


def main(path: Path, root: Path, out: Path) -> None:
    small = {"object_store_memory": 80 * 2**20}
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    workers = [nodes.add_node(num_cpus=1, **small) for _ in range(2)]
    nodes.wait_for_nodes()
    work = tasks.work(spec.load(path), path, "quick", seeds=1, folds=[0])
    seen: dict[str, object] = {}

    def kill_a_node() -> None:
        # When one run is finished and both nodes have saved something of another that may be lost.
        while not finished(out) or len(at_work(out, work)) < len(workers):
            time.sleep(0.02)
        seen["at work"] = at_work(out, work)
        seen["before"] = finished(out)
        nodes.remove_node(workers[0], allow_graceful=False)

    killer = threading.Thread(target=kill_a_node, daemon=True)
    killer.start()
    now = conduct.conduct(work, out, lambda: Cluster(nodes.address, root, out))
    killer.join(timeout=60)
    ray.shutdown()
    nodes.shutdown()
    print(json.dumps({**seen, "after": finished(out), "failed": now.failed, "tasks": list(work.tasks)}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
