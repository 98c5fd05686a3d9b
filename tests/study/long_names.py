"""Runs of arms whose long names begin alike, and how they compare: what a page has to keep apart."""

from pathlib import Path

import numpy as np

from carpus import config
from carpus.labels import BONES
from carpus.study import judge, results
from carpus.study.judgement import Judgement
from carpus.study.spec import Pair
from study import planted

ARMS = (
    "DeepLabV3+, GroupNorm, Dice",
    "+ up layer, 6k more iterations",
    "U-Net of half resolution, up as a no-op",
    "U-Net of half resolution, up at random",
    "SegFormer + as many parameters, one pixel",
    "SegFormer + as many parameters, two pixels",
)
CONTRASTS = tuple(Pair(one, other) for n, one in enumerate(ARMS) for other in ARMS[:n])
BETTER = ARMS[-1]
PATIENTS = [f"ID{number:02}" for number in range(20)]


def judgement(folder: Path, settings: config.Config) -> Judgement:
    """All pairs; the last arm is better in every class, the first one better in one class and worse in another."""
    draw = np.random.default_rng(0)
    patients = 0.85 + 0.02 * draw.standard_normal((len(PATIENTS), 29))
    arms = {}
    for number, name in enumerate(ARMS):
        runs = []
        for seed in range(3):
            dice = patients + 0.05 * (name == BETTER) + 0.01 * draw.standard_normal(patients.shape)
            dice[:, BONES.index("Lunate")] -= 0.03 * (name == ARMS[0])
            dice[:, BONES.index("Radius")] += 0.03 * (name == ARMS[0])
            table = planted.table(dice, [(f"{patient}/1", patient) for patient in PATIENTS], "test", BONES)
            path = planted.write_run(folder / f"{number}{seed}", {"test": table}, settings=settings)
            runs.append(results.read_run(path, seed=seed))
        arms[name] = results.Arm(name, tuple(runs))
    return judge.judge(arms, CONTRASTS, margin=1e-6)
