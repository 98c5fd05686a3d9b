"""A prediction on two Ray nodes, one of which is killed: `python ray_prediction.py RUN IMAGES OUT` prints JSON."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster as Nodes

from carpus import cluster, run, segment


def main(trained: Path, images: Path, out: Path) -> None:
    small: Any = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    nodes = Nodes(initialize_head=True, head_node_args={**small, "num_cpus": 0, "include_dashboard": False})
    workers = [nodes.add_node(**small) for _ in range(2)]
    nodes.wait_for_nodes()
    killed: list[int] = []

    def watch(done: int, _: int) -> None:
        if done > cluster.IMAGES_A_TASK and not killed:
            killed.append(done)
            nodes.remove_node(workers[0], allow_graceful=False)

    by = partial(cluster.work, str(nodes.address))
    summary = segment.segment([run.read(trained)], images, out, device="cpu", by=by, progress=watch)
    ray.shutdown()
    nodes.shutdown()
    print(json.dumps({"images": summary.images, "faults": list(map(str, summary.faults)), "killed after": killed}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
