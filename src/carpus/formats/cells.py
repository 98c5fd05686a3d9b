"""Cells of a CSV that no spreadsheet takes for a formula (CSV injection).

A spreadsheet computes a cell that starts with = + - @, a tab or a carriage return. An apostrophe before it makes it
text, in every spreadsheet; reading takes the apostrophe away again.
"""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def escaped(cell: str) -> str:
    """`cell` as it is written."""
    return f"'{cell}" if cell.lstrip("'").startswith(_FORMULA) else cell


def plain(cell: str) -> str:
    """The inverse of `escaped`; anything else comes back as it is."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA) else cell
