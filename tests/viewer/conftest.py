"""A pseudo-labelled folder."""

from pathlib import Path

import numpy as np
import pytest

from carpus import data, kernels
from carpus.formats import submission
from carpus.labels import BONES
from carpus.pseudo import make, trust


@pytest.fixture(scope="session")
def pseudo(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pseudo-labels of the four test images, of which the second lost its Lunate, the third two bones."""
    tmp = tmp_path_factory.mktemp("selections")
    cases = data.read(dataset).test
    rows = [(submission.image_name(case.name), kernels.encode(data.read_labels(case), len(BONES))) for case in cases]
    submission.write(tmp / "a.csv", rows, BONES)
    make.make([tmp / "a.csv"], dataset / "test/DCM", tmp / "pseudo")
    for n, case in enumerate(data.cases(tmp / "pseudo", "train")):
        bones = {bone: trust.Bone(True, (), {"agreement": 0.95, "place": 1.25, "holes": None}) for bone in BONES}
        if n in (1, 2):
            bones["Lunate"] = trust.Bone(False, ("agreement",), {"agreement": 0.81 - n / 10, "place": 1.0})
        if n == 2:
            bones["Radius"] = trust.Bone(False, ("missing", "place"), {"missing": 1.0, "place": 7.5})
        trust.write(tmp / "pseudo", case.name, trust.Found("", bones, np.array([[5, 3], [200, 4]])))
    return tmp / "pseudo"
