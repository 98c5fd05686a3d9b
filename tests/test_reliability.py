"""Probabilities that say how often they are right."""

import numpy as np
import pytest
import torch

from carpus import calibrate, crossfit, reliability
from carpus import labels as label_map
from carpus.labels import Classes
from carpus.postprocess import Calibration, Step

ONE = Classes(("a",))


def image(seed: int, overconfident: float, members: int = 1) -> calibrate._Image:
    """Labels drawn from sigmoid(z) of a smooth z, and networks that say `overconfident` times z."""
    random = np.random.default_rng(seed)
    rows, columns = np.indices((64, 64))
    z = torch.from_numpy(3 - ((rows - 30) ** 2 + (columns - 34) ** 2) / 80.0)
    truth = label_map.pack(random.random((1, 64, 64)) < torch.sigmoid(z).numpy())
    return calibrate._Image([(overconfident * z).float()[None, None]] * members, truth, "probabilities")


@pytest.mark.parametrize("true", [0.5, 1.0, 2.0, 4.0])
def test_the_likeliest_temperature_is_the_true_one(true: float) -> None:
    shown = [image(seed, true) for seed in range(5)]
    steps = [Step(), *crossfit.families(1)["temperature"]]
    losses = [np.mean([each.loss(Calibration({"a": step}, ONE)) for each in shown]) for step in steps]
    assert steps[int(np.argmin(losses))].temperature == true
    before, after = (
        reliability.calibration_error(
            np.sum([each.bins(Calibration({"a": Step(temperature=t)}, ONE)) for each in shown], 0)
        )
        for t in (1.0, true)
    )
    assert after < 0.02
    if true != 1:
        assert before > 3 * after


def test_a_temperature_moves_no_label_of_one_network_or_two_but_those_of_three_in_a_mean_of_probabilities() -> None:
    steps = [{}, {"a": Step(temperature=8.0)}]
    one, two, three = [4.0], [4.0, -1.5], [4.0, -1.5, -1.5]
    found = [
        [_above_one_half(answers, Calibration(each, ONE, [[str(n)] for n in range(len(answers))])) for each in steps]
        for answers in (one, two, three)
    ]
    assert found == [[True, True], [True, True], [False, True]]


def _above_one_half(answers: list[float], calibration: Calibration) -> bool:
    shown = calibrate._Image([torch.full((1, 1, 4, 4), z) for z in answers], label_map.empty((4, 4)), "probabilities")
    return bool((shown._logits(calibration) > 0).all())


def test_only_what_is_near_the_bone_and_in_the_image_counts() -> None:
    truth = label_map.empty((40, 80))
    label_map.paint(truth, 0, np.ones((8, 8), bool), 16, 16)
    logits = torch.full((1, 2, 20, 20), -20.0)
    logits[0, 0, 4:6, 4:6] = 20
    logits[0, :, 15, 15] = 20  # below the image
    near = reliability.regions(logits, truth)
    assert near[1] is None
    assert near[0].box == (slice(0, 10), slice(0, 10))
    assert near[0].truth.sum() == 4
    assert reliability.loss(logits, near) == pytest.approx([0, 0], abs=1e-6)
    assert reliability.bins(logits, near)[0, :, 0].tolist() == [96, *[0] * 13, 4]
    assert reliability.calibration_error(reliability.bins(-logits, near)) == pytest.approx(1)
    assert reliability.calibration_error(np.zeros((2, 15, 3))) == 0
