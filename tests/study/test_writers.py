"""Tables go into a spreadsheet, a paper and a page without being taken for something else."""

import csv

import pytest

from carpus.report import Listing
from carpus.study.report import writers

NUMBERS = (
    "0.9444",
    "+0.0010",
    "−0.0010",
    "0.9444 ± 0.0010",
    "−0.0010 to +0.0020",
    "< 0.001",
    "24 × 26",
    "12.5 M",
    "1\u202f449 MiB",
    "3.5 min",
    "42 s",
    "–",
    "",
)
NAMES = ("+ 1x1", "+ 1x1 against + up layer", "+1+cmd|' /C calc'!A0", "-2+3", "+1 =A0", "1.5x", "+ 5", "< plain")


def listing(*cells: str) -> Listing:
    return Listing("One", "", ["Arm", "Value"], [["a", cell] for cell in cells])


@pytest.mark.parametrize("cell", NUMBERS)
def test_numbers_stay_numbers(cell: str) -> None:
    rows = list(csv.reader(writers.comma_separated(listing(cell)).splitlines()))
    assert rows[1][1] == cell.replace("−", "-")
    assert writers.latex(listing(cell)).count("{lr}") == 1
    assert "|---|--:|" in writers.markdown(listing(cell))


@pytest.mark.parametrize("columns", [7, 8])
def test_a_table_wider_than_a_page_is_made_to_fit_in_a_paper(columns: int) -> None:
    made = writers.latex(Listing("Wide", "", [f"c{n}" for n in range(columns)], [["a"] * columns]))
    assert made.count(r"\resizebox{\textwidth}{!}{%") == (columns == 8)
    assert made.count("{") == made.count("}")


@pytest.mark.parametrize("cell", NAMES)
def test_names_that_a_spreadsheet_would_compute_are_escaped(cell: str) -> None:
    rows = list(csv.reader(writers.comma_separated(listing(cell)).splitlines()))
    assert rows[1][1] == (f"'{cell}" if cell[0] in "+-" else cell)
    assert writers.latex(listing(cell)).count("{ll}") == 1
