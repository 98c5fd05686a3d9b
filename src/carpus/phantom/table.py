"""The table of patients, as untidy as the real one."""

import csv
import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from carpus.formats import files
from carpus.phantom.skeleton import Patient

COLUMNS = ("ID", "나이", "성별", "체중(몸무게)", "키(신장)", None)
"""ID, age, sex, weight in kg, height in cm, and remarks under no name."""

_SPELLINGS = {"female": ("여", "_x0008_여", " 여"), "male": ("남", " 남", "남 ")}
_REMARKS = ("반지", "네일아트", "골절 수술 후 금속판")


def write(folder: Path, patients: Sequence[tuple[int, Patient]], seed: int) -> Path:
    """Write FOLDER/meta_data.xlsx, or meta_data.csv where openpyxl is not installed; the same seed, the same bytes.

    Args:
        folder: where to write.
        patients: number and patient; the rows are in the order of the numbers.
        seed: of the untidiness.
    """
    rows = [_row(number, who, seed) for number, who in sorted(patients, key=lambda one: one[0])]
    try:
        from openpyxl import Workbook
    except ImportError:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
        files.write_text(folder / "meta_data.csv", text.getvalue())
        return folder / "meta_data.csv"
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.title = "Sheet1"
    for row in (COLUMNS, *rows):
        sheet.append(list(row))
    saved = io.BytesIO()
    book.save(saved)
    with files.atomic(folder / "meta_data.xlsx") as temporary:
        temporary.write_bytes(_timeless(saved.getvalue()))
    return folder / "meta_data.xlsx"


def _row(number: int, who: Patient, seed: int) -> tuple[int | float | str | None, ...]:
    rng = np.random.default_rng(np.random.SeedSequence([seed, 2, number]))
    sex = str(rng.choice(_SPELLINGS[who.sex], p=[0.9, 0.06, 0.04]))
    remark = _REMARKS[0] if who.ring else _REMARKS[2] if who.metal else _REMARKS[1] if rng.random() < 0.02 else None
    return number, who.age, sex, who.weight_kg, who.height_cm, remark


def _timeless(book: bytes) -> bytes:
    """An xlsx file without the moment of its making, which would make the bytes differ from run to run."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book)) as old, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"\d{4}-\d\d-\d\dT[\d:]+Z", b"2022-08-22T00:00:00Z", content)
            new.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return result.getvalue()
