"""The outputs of a committed run are what they were, byte for byte.

When this fails and the change is meant (another order in a file, another rule of thresholding), write the hashes anew
with ``python tests/golden/make.py --hashes``, look at what differs in expected.json, and say in the changelog what
changed. When no change is meant, a prediction that users rely on has changed. The run itself is made anew, by
``python tests/golden/make.py``, only if it cannot be read any more.
"""

import json
from pathlib import Path

import torch

from carpus.labels import BONES
from carpus.postprocess import Calibration
from golden import make


def test_no_pixel_is_so_near_its_threshold_that_rounding_could_move_it() -> None:
    cuts = torch.logit(Calibration.read(make.HERE / "calibration.json", BONES).thresholds()).float()
    for logits in make.upsampled():
        # Processors differ by about 1e-5 in these logits.
        assert (logits - cuts[:, None, None]).abs().min() > 0.005
        assert (logits > cuts[:, None, None]).flatten(1).any(1).sum() >= 20  # and there is something to predict


def test_a_committed_runs_outputs_are_what_they_were(tmp_path: Path) -> None:
    assert make.outputs(tmp_path) == json.loads((make.HERE / "expected.json").read_text())


def test_the_golden_files_are_small() -> None:
    assert sum(path.stat().st_size for path in make.HERE.rglob("*") if path.is_file()) < 300 * 1024
