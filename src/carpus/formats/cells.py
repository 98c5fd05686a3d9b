"""Tables of CSV as people and spreadsheets leave them, and cells that no spreadsheet takes for a formula.

A spreadsheet computes a cell that starts with = + - @, a tab or a carriage return. An apostrophe before it makes it
text, in every spreadsheet; reading takes the apostrophe away again.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from carpus.errors import DataError
from carpus.formats import files

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def escaped(cell: str) -> str:
    """`cell` as it is written."""
    return f"'{cell}" if cell.lstrip("'").startswith(_FORMULA) else cell


def plain(cell: str) -> str:
    """The inverse of `escaped`; anything else comes back as it is."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA) else cell


def table(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> list[tuple[int, tuple[str, ...]]]:
    """Line number and plain cells of every row that is not blank, in the order of `columns` and `optional`.

    Commas or semicolons, LF or CRLF, with or without a byte order mark; columns in any order.

    Args:
        path: the CSV file.
        columns: that have to be there.
        optional: that may be there; a column that is not has empty cells. There may be no others.

    Raises:
        DataError: naming the file and line: no readable CSV, other columns, a row of another number of cells.
    """
    # csv refuses cells of more than 128 KiB, and the runs of a noisy mask are longer.
    usual = csv.field_size_limit(files.MAX_JSON_BYTES)
    try:
        rows = list(lines(path))
    finally:
        csv.field_size_limit(usual)
    line, header = rows[0] if rows else (1, [])
    wanted = [*columns, *(name for name in optional if name in header)]
    if sorted(header) != sorted(wanted):
        found = ", ".join(header)[:200] or "nothing"
        index = "; was it written with pandas' index? to_csv(index=False)" if header[:1] == [""] else ""
        raise DataError(f"{path}: line {line}: expected the columns {', '.join(columns)}, found {found}{index}")
    order = [header.index(name) if name in header else None for name in (*columns, *optional)]
    result = []
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise DataError(f"{path}: line {line}: expected {len(header)} cells, has {len(cells)}")
        result.append((line, tuple("" if at is None else plain(cells[at]) for at in order)))
    return result


def lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every line that is not blank; raises `DataError` for what is no CSV."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline(1000)
            separator = ";" if first.count(";") > first.count(",") else ","
            stream.seek(0)
            rows = csv.reader(stream, delimiter=separator, strict=True)
            for cells in rows:
                if cells:
                    yield rows.line_num, [cell.strip() for cell in cells]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (is it UTF-16? save it as UTF-8)") from error
    except csv.Error as error:
        raise DataError(f"{path}: not a readable CSV file ({error})") from error
