"""A study of tiny runs: two that differ, one that is the same as another, one that needs another, one that fails."""

from pathlib import Path

import pytest
import yaml

from conftest import TINY

ARMS = {
    "BCE": {"base": "tiny", "set": {"train": {"loss": {"bce": 1}}}},
    "Dice": {"base": "tiny", "set": {"train": {"loss": {"dice": 1}}}},
    "BCE again": {"base": "tiny", "set": {"train": {"loss": {"bce": 1}}}},
    "refined": {"base": "tiny", "set": {"model": {"refine": {"kind": "local"}}}, "start": "BCE"},
}

BROKEN = {
    "broken": {"base": "tiny", "set": {"train": {"batch_size": 3, "accumulate": 2}}},
    "after it": {"base": "tiny", "start": "broken"},
}


def study(arms: dict[str, object], **base: dict[str, object]) -> str:
    settings: dict[str, dict[str, object]] = {}
    for override in TINY:
        name, value = override.split("=")
        section, key = name.split(".")
        settings.setdefault(section, {})[key] = yaml.safe_load(value)
    for section, values in base.items():
        settings[section] |= values
    content = {
        "name": "Tiny",
        "question": "Does it run?",
        "control": "BCE",
        "arms": arms,
        "contrasts": [["Dice", "BCE"]],
        "scales": {
            "quick": {
                "seeds": 1,
                "bases": {"tiny": {"recipe": "demo", "set": settings}},
                "phantom": {"patients": 4, "test_patients": 2, "size": 96, "seed": 1},
            }
        },
    }
    return yaml.safe_dump(content, sort_keys=False)


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("studies") / "tiny.yaml"
    path.write_text(study({**ARMS, **BROKEN}))
    return path
