"""A study on three Ray nodes of which one is killed in the middle: `python node_loss.py STUDY DATA OUT` prints JSON.

With the URL of a store for a fourth argument every node has its own folder for what is temporary, and knows no OUT.
"""

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
from carpus.study.store import Store


def finished(out: Path) -> dict[str, int]:
    done = [path.parent for path in out.glob(f"{tasks.RUNS}/[!.]*/{tasks.DONE}")]  # hidden: being downloaded
    return {folder.name: (folder / tasks.DONE).stat().st_mtime_ns for folder in done}


def at_work(out: Path, homes: list[Path], work: tasks.Work) -> list[str]:
    places = [out, *(scratch for home in homes for scratch in home.glob("carpus-*"))]
    states = {key: [tasks.folder(place, key) / run.STATE for place in places] for key in work.tasks}
    return [
        key
        for key, of in states.items()
        if not tasks.is_done(out, key) and any(list(state.glob("[0-9]*.safetensors")) for state in of)
    ]


def main(path: Path, root: Path, out: Path, url: str | None = None) -> None:
    small = {"object_store_memory": 80 * 2**20}
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    homes = [out.with_name(f"node{number}") for number in range(2)]
    for home in homes:
        home.mkdir()
    apart = [{"env_vars": {"TMPDIR": str(home)}} if url else {} for home in homes]
    workers = [nodes.add_node(num_cpus=1, **small, **more) for more in apart]
    nodes.wait_for_nodes()
    work = tasks.work(spec.load(path), path, "quick", seeds=1, folds=[0])
    store = Store(url) if url else None
    conduct.begin(out, path, "quick", root, work.rows, store)
    seen: dict[str, object] = {}

    def kill_a_node() -> None:
        # When one run is finished and both nodes have saved something of another that may be lost.
        while not finished(out) or len(at_work(out, homes, work)) < len(workers):
            time.sleep(0.02)
        seen["at work"] = at_work(out, homes, work)
        seen["before"] = finished(out)
        nodes.remove_node(workers[0], allow_graceful=False)

    killer = threading.Thread(target=kill_a_node, daemon=True)
    killer.start()
    now = conduct.conduct(work, out, lambda: Cluster(nodes.address, root, out, store))
    killer.join(timeout=60)
    ray.shutdown()
    nodes.shutdown()
    on_nodes = [sorted(each.name for each in home.glob(f"carpus-*/{tasks.RUNS}/*")) for home in homes]
    print(
        json.dumps(
            {**seen, "on nodes": on_nodes, "after": finished(out), "failed": now.failed, "tasks": list(work.tasks)}
        )
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), *sys.argv[4:])
