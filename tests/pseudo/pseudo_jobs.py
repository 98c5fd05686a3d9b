"""A training that learns from pseudo-labels, as far as it is prepared before its first step."""

from pathlib import Path

from carpus import config, job
from carpus.devices import fabric


def prepared(settings: config.Config, root: Path) -> job.Job:
    return job.prepare(settings, root, fabric("cpu", "32"))
