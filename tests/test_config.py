"""YAML layers, overrides, and what is said of a bad setting."""

from pathlib import Path
from typing import get_args

import pytest
import yaml

from carpus import config, losses
from carpus.errors import ConfigError


def test_later_layers_and_overrides_win(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train: {steps: 10, batch_size: 2}\nmodel: {encoder: resnet34}")
    (tmp_path / "b.yaml").write_text("train: {steps: 20}")
    settings = config.load([tmp_path / "a.yaml", tmp_path / "b.yaml"], ["train.batch_size=3"])
    assert (settings.train.steps, settings.train.batch_size, settings.model.encoder) == (20, 3, "resnet34")


def test_a_loss_replaces_that_of_an_earlier_layer() -> None:
    assert set(config.load(["demo"]).train.loss) == {"bce", "dice"}
    assert config.load(["demo"], ["train.loss={dice: 1}"]).train.loss == {"dice": 1.0}


def test_dump_reads_back_to_the_same(tmp_path: Path) -> None:
    settings = config.load(["demo"], ["train.seed=7", "data.label_size=null"])
    (tmp_path / "config.yaml").write_text(config.dump(settings))
    assert config.load([tmp_path / "config.yaml"]) == settings


@pytest.mark.parametrize("recipe", sorted(config.RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_loads_by_name(recipe: Path) -> None:
    assert config.load([recipe.stem]) == config.load([recipe])


def test_the_recipe_of_pseudo_labels_goes_on_top_of_any_other() -> None:
    plain, mixed = (config.load(["unet", *more], ["data.pseudo.root=/labels"]) for more in ([], ["pseudo"]))
    stated = yaml.safe_load((config.RECIPES / "pseudo.yaml").read_text())
    assert list(stated) == ["data"]
    assert mixed.data.pseudo.model_dump(include=set(stated["data"]["pseudo"])) == stated["data"]["pseudo"]
    assert mixed.data.pseudo.root == "/labels"
    assert (mixed.model, mixed.train, mixed.augment) == (plain.model, plain.train, plain.augment)


def test_every_loss_can_be_set() -> None:
    assert set(get_args(config.LossName)) == set(losses.FORMULAS)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.0e-3", "0.001"])
def test_a_number_with_an_exponent_is_a_number_although_yaml_says_text(text: str) -> None:
    assert config.load([], [f"train.learning_rate={text}"]).train.learning_rate == 0.001


def test_precision_may_be_written_as_the_number_that_it_looks_like() -> None:
    assert config.load([], ["train.precision=32"]).train.precision == "32"


def test_a_class_list_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipe.yaml").write_text("classes: lists/two.json")
    assert config.load([tmp_path / "recipe.yaml"]).classes == str(tmp_path.resolve() / "lists/two.json")
    monkeypatch.chdir(tmp_path)
    assert config.load([], ["classes=two.json"]).classes == str(tmp_path.resolve() / "two.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {stepz: 3}", "train.stepz: no such setting; did you mean train.steps?"),
        ("steps: 3", "steps: no such setting; did you mean train.steps?"),
        ("train: {lr: 1e-3}", r"train\.lr: no such setting; did you mean train\.learning_rate\?"),
        ("train: {steps: many}", "train.steps: expected integer >= 1, got 'many'"),
        ("train: {steps: 0}", "train.steps: expected integer >= 1, got 0"),
        ("train: {steps: true}", "train.steps: expected integer >= 1, got True"),
        ("train: {learning_rate: '1e-3'}", "train.learning_rate: expected number > 0, got '1e-3'"),
        ("train: {precision: 16}", r"train.precision: expected auto \| 32 \| bf16 \| fp16, got 16"),
        ("train: {learning_rate: .nan}", "train.learning_rate: .*got nan"),
        ("data: {pseudo: {share: 1}}", "data.pseudo.share: expected number > 0 and < 1, got 1$"),
        ("data: {pseudo: {until: 0}}", "data.pseudo.until: expected number > 0 and <= 1, got 0$"),
        ("train: {loss: {}}", "train.loss: expected mapping of names to number > 0"),
        ("train: {loss: {dice: -1}}", "train.loss.dice: expected number > 0, got -1"),
        ("train: {loss: {tversky: {alpha: -1}}}", "train.loss.tversky.alpha: expected number >= 0, got -1"),
        ("model: {decoder_channels: [1, 0]}", "model.decoder_channels.1: expected number >= 1, got 0"),
        ("train: {loss: {dise: 1}}", "train.loss.dise: no such name; expected 'bce', "),
        ("train: {additions_rate: 0}", "train.additions_rate: expected number > 0 .*, got 0"),
        ("train: {additions_rate: {down: 0}}", "train.additions_rate.down: expected number > 0, got 0"),
        ("train: {additions_rate: {dwn: 1}}", "train.additions_rate.dwn: no such name; expected 'down', "),
        ("model: {up: {kind: transpose}}", r"model\.up\.kind: expected shuffle \| transposed, got 'transpose'"),
        ("model: {down: {kind: stride}}", r"model\.down\.kind: expected shuffle \| strided, got 'stride'"),
        ("model: {up: {factor: 3}}", r"model\.up\.factor: expected 2 \| 4, got 3"),
        ("model: {up: {fctor: 2}}", r"model\.up\.fctor: no such setting; did you mean model\.up\.factor\?"),
        ("model: {up: 3}", r"model\.up: expected mapping \| null, got 3"),
        ("model: 3", "model: expected mapping, got 3"),
        ("model: {aux: [{stage: 6}]}", r"model\.aux\.0\.stage: expected 1 \| 2 \| 3 \| 4 \| 5, got 6"),
        ("model: {aux: [{}, {weight: -1}]}", r"model\.aux\.1\.weight: expected number >= 0, got -1"),
        (
            "model: {aux: [{stage: 4, weigth: 0.4}]}",
            r"model\.aux\.0\.weigth: no such setting; did you mean model\.aux\[\]\.weight\?",
        ),
        ("model: {aux: [4]}", r"model\.aux\.0: expected mapping, got 4"),
        ("model: {aux: {stage: 4}}", r"model\.aux: expected list of mapping, got \{'stage': 4\}"),
        ("1: 2", "1: no such setting"),
        ("data: {image_size: 100}", "data.image_size: expected integer, a multiple of 32, >= 32, got 100"),
        ("train: !!python/object/apply:os.system [ls]", "line 1: could not determine a constructor"),
        ("train: {steps: 1}\ntrain: {steps: 2}", "line 1: key 'train' stands twice"),
        ("- train", "expected settings by name, got list"),
        ("train: [", "line 1"),
        ("a: &a [*a]", "a: no such setting"),
    ],
)
def test_a_bad_file_gives_one_line_with_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        config.load([path])
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [("steps", "expected NAME=VALUE"), ("=3", "expected NAME=VALUE"), ("train.x=3", "train.x: no")],
)
def test_a_bad_override_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        config.load([], [override])
    assert str(caught.value).startswith(f"--set {override}")


def test_a_missing_recipe_lists_those_that_come_along() -> None:
    with pytest.raises(ConfigError, match=r"nothere: no such file.*demo"):
        config.load(["nothere"])


def test_every_field_has_a_meaning() -> None:
    rows = list(config.fields())
    assert next(row for row in rows if row[0] == "train.steps")[:3] == ("train.steps", "integer >= 1", "2000")
    assert ("train.additions_rate", "number > 0 | mapping of names to number > 0", "1.0") in [row[:3] for row in rows]
    assert all(meaning for *_, meaning in rows)
