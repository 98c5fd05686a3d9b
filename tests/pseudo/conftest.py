"""What tests of learning from pseudo-labels share; each of their files makes its own `pseudo` folder."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(pseudo: Path, tmp_path: Path) -> Path:
    """A copy of the pseudo-labelled folder, to be changed."""
    return shutil.copytree(pseudo, tmp_path / "data")
