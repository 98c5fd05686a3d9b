"""Sex and height of patients from a data folder's meta_data.xlsx, or .csv with the same columns.

The real workbook has Korean heads and dirty cells (docs/formats.md): what cannot be understood is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from carpus.errors import DataError, warn
from carpus.formats import cells


@dataclass(frozen=True)
class Patient:
    """What meta_data.xlsx says of a patient; None where it says nothing usable."""

    sex: str | None = None
    height_cm: float | None = None


def read(root: Path) -> dict[str, Patient]:
    """What meta_data.xlsx or meta_data.csv of a data folder says of its patients; nothing where there is neither.

    Raises:
        DataError: it cannot be read as a table.
    """
    paths = [path for path in (root / "meta_data.xlsx", root / "meta_data.csv") if path.is_file()]
    if not paths:
        return {}
    try:
        header, *rows = _rows(paths[0]) or [[]]
    except ImportError:
        warn(f"{paths[0]}: not read, because openpyxl is missing (pip install 'carpus[xlsx]')")
        return {}
    except Exception as error:  # what the readers of spreadsheets raise is without limit
        raise DataError(f"{paths[0]}: cannot be read as a table ({error})") from error
    places = {str(name).split("(")[0].strip().lower(): place for place, name in enumerate(header)}

    def column(*names: str) -> list[object]:
        place = next((places[name] for name in names if name in places), None)
        return [None if place is None or place >= len(row) else row[place] for row in rows]

    patients: dict[str, Patient] = {}
    for number, sex, height in zip(column("id"), column("성별", "sex"), column("키", "height"), strict=True):
        try:
            identity = f"ID{int(str(number).removeprefix('ID').removesuffix('.0')):03d}"
        except ValueError:
            continue
        patients[identity] = Patient(_sex(sex), _height(height))
    return patients


def _rows(path: Path) -> list[Sequence[object]]:
    """The first sheet of a workbook, or a CSV file. Importing pandas alone takes longer than either."""
    if path.suffix == ".csv":
        return [row for _, row in cells.lines(path)]
    import openpyxl

    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        return list(book.worksheets[0].iter_rows(values_only=True))
    finally:
        book.close()


def _sex(cell: object) -> str | None:
    # The real column holds cells such as "_x0008_여" and " 남".
    text = str(cell).strip().lower()
    if text.endswith(("여", "female")) or text == "f":
        return "female"
    return "male" if text.endswith(("남", "male")) or text == "m" else None


def _height(cell: object) -> float | None:
    try:
        height = float(str(cell))
    except ValueError:
        return None
    return height if 50 < height < 250 else None
