"""One table as Markdown, CSV and LaTeX."""

import csv
import io
import re

from carpus.formats.cells import escaped
from carpus.report import Listing

_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "<": "$<$",
    ">": "$>$",
    "\u202f": r"\,",
}

_FITTING = 7
"""Columns that fit beside each other on a page of text."""

_ONE = r"[+−]?\d[\d\u202f]*(\.\d+)?"
_NUMBER = re.compile(rf"(< )?{_ONE}( (±|to|×) {_ONE})?( (M|MiB|s|min|h))?|–|")
"""What a cell with a number looks like, and nothing else: a name such as "+ 1x1" is none."""


def markdown(listing: Listing) -> str:
    """A pipe table under its heading."""
    right = _numeric(listing)
    lines = [
        f"### {listing.title}",
        "",
        *([listing.told, ""] if listing.told else []),
        _row(listing.columns),
        "|" + "|".join("--:" if number else "---" for number in right) + "|",
        *(_row(row) for row in listing.rows),
    ]
    return "\n".join(lines) + "\n"


def comma_separated(listing: Listing) -> str:
    """CSV with a head; a name that a spreadsheet would calculate is escaped, signs of numbers are plain hyphens."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (listing.columns, *listing.rows):
        writer.writerow([cell.replace("−", "-") if _NUMBER.fullmatch(cell) else escaped(cell) for cell in row])
    return text.getvalue()


def latex(listing: Listing) -> str:
    """A floating table for the package booktabs; one of many columns is made as narrow as the text by graphicx."""
    wide = len(listing.columns) > _FITTING
    columns = "".join("r" if number else "l" for number in _numeric(listing))
    rows = [" & ".join(map(_escape, row)) + r" \\" for row in listing.rows]
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{_escape(' '.join(filter(None, (f'{listing.title}.', listing.told))))}}}",
        *([r"\resizebox{\textwidth}{!}{%"] if wide else []),
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(_escape, listing.columns)) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}" + ("}" if wide else ""),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _numeric(listing: Listing) -> list[bool]:
    return [all(_NUMBER.fullmatch(row[place]) for row in listing.rows) for place in range(len(listing.columns))]


def _row(cells: object) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"  # type: ignore[attr-defined]


def _escape(cell: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in cell)
