"""Sex and height of patients from a data folder."""

import sys
from pathlib import Path

import pandas
import pytest

from carpus import data
from carpus.errors import DataError, DataWarning
from carpus.formats import metadata
from carpus.formats.metadata import Patient

DIRTY = {"ID": [1, 2, 3, "?"], "성별": ["_x0008_여", " 남", "?", "남"], "키(신장)": [160.5, "170", "tall", 150]}
"""Cells as the real workbook has them."""

UNDERSTOOD = {"ID001": Patient("female", 160.5), "ID002": Patient("male", 170.0), "ID003": Patient()}


def test_dirty_cells_are_understood_in_a_workbook_and_in_csv(tmp_path: Path) -> None:
    table = pandas.DataFrame(DIRTY)
    table.to_csv(tmp_path / "meta_data.csv", index=False)
    assert metadata.read(tmp_path) == UNDERSTOOD
    table.to_excel(tmp_path / "meta_data.xlsx", index=False)
    (tmp_path / "meta_data.csv").unlink()
    assert metadata.read(tmp_path) == UNDERSTOOD


def test_english_heads_and_bare_letters_are_understood(tmp_path: Path) -> None:
    (tmp_path / "meta_data.csv").write_text("id,sex,height\nID7,F,158\n8.0,Male,20\n")
    assert metadata.read(tmp_path) == {"ID007": Patient("female", 158.0), "ID008": Patient("male")}


def test_a_folder_without_a_table_says_nothing(tmp_path: Path) -> None:
    assert metadata.read(tmp_path) == {}


def test_a_data_folder_has_the_metadata_of_its_patients(dataset: Path) -> None:
    assert data.read(dataset).patients == metadata.read(dataset) != {}


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "meta_data.xlsx").write_bytes(b"PK\x03\x04 no workbook")
    with pytest.raises(DataError, match=r"meta_data\.xlsx: cannot be read as a table"):
        metadata.read(tmp_path)


def test_a_workbook_without_a_reader_is_a_warning(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.warns(DataWarning, match=r"pip install 'carpus\[xlsx\]'"):
        assert metadata.read(dataset) == {}
