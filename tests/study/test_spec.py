"""A study file is read whole, or refused by a line that names file and key."""

from pathlib import Path

import pytest

from carpus import config
from carpus.errors import ConfigError
from carpus.study import spec

LOSSES = """
name: Losses
question: Which loss gives the best Dice?
control: BCE
arms:
  BCE: {base: unet, set: {train: {loss: {bce: 1}}}, published: {val: 0.9444, public: 0.9428}}
  Dice: {base: unet, set: {train: {loss: {dice: 1}}}, quick: {train: {steps: 7}}, flags: {budget: more steps}}
contrasts: [[Dice, BCE]]
claims: [{text: Dice is best., contrasts: [[Dice, BCE]]}]
regrets: [{text: Dice was not tried., arms: [Dice]}]
scales:
  full: {bases: {unet: {recipe: unet}}}
  quick: {seeds: 2, bases: {unet: {recipe: demo, set: {train: {steps: 5}}}}, phantom: {patients: 6}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "losses.yaml"
    path.write_text(text)
    return path


def test_an_arm_is_recipe_base_and_its_own_settings_in_this_order(tmp_path: Path) -> None:
    path = write(tmp_path, LOSSES)
    study = spec.load(path)
    made = spec.settings(study, "Dice", "quick", path, seed=3, fold=1)
    expected = ["train.steps=7", "train.loss={dice: 1}", "train.seed=3", "data.fold=1"]
    assert made == config.load(["demo"], expected)
    assert spec.settings(study, "BCE", "full", path) == config.load(["unet"], ["train.loss={bce: 1}"])
    assert study.contrasts == (("Dice", "BCE"),)
    assert study.control_of("Dice") == "BCE"
    assert study.control_of("BCE") is None


def test_a_recipe_may_lie_beside_the_study(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("model: {encoder: resnet34}")
    path = write(tmp_path, LOSSES.replace("recipe: unet", "recipe: mine.yaml"))
    assert spec.settings(spec.load(path), "BCE", "full", path).model.encoder == "resnet34"


@pytest.mark.parametrize(
    ("there", "wrong", "said"),
    [
        ("name: Losses", "nme: Losses", "nme: no such key"),
        ("question: Which loss gives the best Dice?", "", "question: is missing"),
        ("control: BCE", "control: BCF", "control: expected one of the arms BCE, Dice, got BCF"),
        ("contrasts: [[Dice, BCE]]\ncl", "contrasts: [[Dice, BC]]\ncl", r"contrasts\[0\]: expected one of the arms"),
        ("contrasts: [[Dice, BCE]]\ncl", "contrasts: [[Dice, Dice]]\ncl", r"contrasts\[0\]: compares Dice with itself"),
        ("contrasts: [[Dice, BCE]]}", "contrasts: [[BCE, Dice]]}", r"claims\[0\].contrasts: BCE against Dice is none"),
        ("arms: [Dice]", "arms: [Dise]", r"regrets\[0\].arms: expected one of the arms"),
        (
            "{base: unet, set: {train: {loss: {bce",
            "{base: net, set: {train: {loss: {bce",
            "arms.BCE.base: expected one",
        ),
        ("loss: {dice: 1}", "los: {dice: 1}", "arms.Dice.set: train.los: no such setting; did you mean train.loss?"),
        ("{steps: 7}", "{steps: 0}", "arms.Dice.quick: train.steps: expected integer >= 1, got 0"),
        ("{steps: 5}", "{steps: five}", "scales.quick.bases.unet.set: train.steps: expected integer"),
        ("recipe: demo", "recipe: dem", "scales.quick.bases.unet.recipe: dem: no such file, nor one of the recipes"),
        ("budget: more steps", "buget: more steps", "arms.Dice.flags.buget: input should be 'budget' or"),
        ("flags: {", "start: Dice, flags: {", "arms.Dice: waits for a run of its own"),
        ("patients: 6", "patient: 6", "scales.quick.phantom.patient: no such key"),
        ("seeds: 2", "seeds: 0", "scales.quick.seeds: input should be greater than or equal to 1, got 0"),
        ("val: 0.9444", "val: 94.44", "arms.BCE.published.val: input should be less than or equal to 1, got 94.44"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_key(tmp_path: Path, there: str, wrong: str, said: str) -> None:
    assert LOSSES.count(there) == 1
    path = write(tmp_path, LOSSES.replace(there, wrong))
    with pytest.raises(ConfigError, match=rf"^{path}: {said}"):
        spec.load(path)


def test_a_study_that_is_not_there_names_those_that_come_along() -> None:
    with pytest.raises(ConfigError, match="no_such_study: no such file, nor one of the studies"):
        spec.load("no_such_study")
