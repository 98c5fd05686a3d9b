import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from carpus import data, run
from carpus.formats import files
from carpus.predict import Ensemble
from carpus.pseudo import make


@pytest.fixture
def very_sure(trained, tmp_path):
    """A run whose logits are far beyond what a mean of probabilities can say."""
    folder = shutil.copytree(trained, tmp_path / "sure")
    weights = load_file(folder / run.WEIGHTS)
    weights["head.weight"] *= 1000
    weights["head.bias"] *= 0  # so that there are borders at all
    save_file(weights, folder / run.WEIGHTS)
    manifest = json.loads((folder / run.MANIFEST).read_text())
    manifest["files"][run.WEIGHTS] = files.sha256(folder / run.WEIGHTS)
    (folder / run.MANIFEST).write_text(json.dumps(manifest))
    return folder


def test_the_labels_of_one_run_are_what_the_run_predicts(dataset, very_sure, tmp_path):
    own = Ensemble.of([run.read(very_sure)], "cpu")
    make.make([very_sure], dataset / "test" / "DCM", tmp_path / "data", choices=make.Choices(device="cpu"))
    for case in data.read(tmp_path / "data").train:
        expected = own(data.read_image(case.image))
        assert len(np.unique(expected)) > 10
        assert np.array_equal(data.read_labels(case), expected)
