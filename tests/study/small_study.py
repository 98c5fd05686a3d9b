"""A study of tiny runs: two that differ, one that is the same as another, two that need others, one that fails."""

import yaml

ARMS = {
    "BCE": {"base": "tiny", "set": {"train": {"loss": {"bce": 1}}}},
    "Dice": {"base": "tiny", "set": {"train": {"loss": {"dice": 1}}}},
    "BCE again": {"base": "tiny", "set": {"train": {"loss": {"bce": 1}}}},
    "refined": {"base": "tiny", "set": {"model": {"refine": {"kind": "local"}}}, "start": "BCE"},
    "pseudo": {
        "base": "tiny",
        "set": {"data": {"pseudo": {"selection": False, "soft": True, "until": 1.0}}},
        "pseudo": {"teachers": ["BCE", "Dice"]},
    },
}

BROKEN = {
    "broken": {"base": "tiny", "set": {"train": {"batch_size": 3, "accumulate": 2}}},
    "after it": {"base": "tiny", "start": "broken"},
}


def study(arms: dict[str, dict[str, object]], **base: dict[str, object]) -> str:
    """The text of a study file whose runs take seconds; `base` changes sections of its settings."""
    model = {"encoder": "tu-tf_mobilenetv3_small_minimal_100", "decoder_channels": [16, 16, 16, 8, 8]}
    settings = {
        "model": model,
        "data": {"image_size": 64, "label_size": 96, "folds": 2},
        "train": {"steps": 3, "batch_size": 2, "validate_every": 2},
    }
    merged = {section: {**values, **base.get(section, {})} for section, values in settings.items()}
    content = {
        "name": "Tiny",
        "question": "Does it run?",
        "control": "BCE",
        "arms": arms,
        "contrasts": [["Dice", "BCE"]],
        "scales": {
            "quick": {
                "seeds": 1,
                "bases": {"tiny": {"recipe": "demo", "set": merged}},
                "phantom": {"patients": 4, "test_patients": 2, "size": 96, "seed": 1},
            }
        },
    }
    return yaml.safe_dump(content, sort_keys=False)
