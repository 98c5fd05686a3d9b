"""What every page is made of: the document around it, headline numbers, tables, facts and commands."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from carpus.errors import ConfigError, DataError
from carpus.formats import files
from carpus.report.markup import Markup, Part, element, join

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Listing:
    """A table of a report.

    Args:
        title: the heading.
        told: what the numbers are.
        columns: the head of every column; the first column names the rows.
        rows: the cells of every row, all as text.
    """

    title: str
    told: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def document(path: Path | str, title: str, *body: Part) -> None:
    """Write a page as one HTML file that needs no other, whole or not at all; raises what `require_place` does."""
    require_place(Path(path))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(_sheet("figure.css") + _sheet("style.css"))),
    )
    page = element("html", head, element("body", element("main", *body)), lang="en")
    files.write_text(path, f"<!doctype html>\n{page}\n")


def require_place(path: Path) -> None:
    """Ask, before the work that a page takes, whether it can be written to `path`.

    Raises:
        ConfigError: a name that is not of a page.
        DataError: something else than a page is there, and would be lost.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{path}: expected a name that ends in .html or .htm; a page of HTML is written")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; expected the name of a page to write")
    files.require_own(path, "page", _is_page)


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        begin = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return begin.startswith((b"<!doctype html", b"<html"))


def dark(page: str) -> str:
    """The text of a page of `document` in its dark colours, whatever the reader's device prefers."""
    return page.replace("color-scheme: light dark", "color-scheme: dark").replace(
        "(prefers-color-scheme: dark)", "(width)"
    )


def figure_file(path: Path | str, drawing: Markup) -> None:
    """Write a drawing of `charts.svg` as a file of its own, in the page's light colours."""
    light, _, _ = _sheet("figure.css").partition("@media")
    named = f'<svg xmlns="http://www.w3.org/2000/svg"><style>{light}{figure_rules()}</style>'
    tag, _, inner = drawing.partition(">")
    files.write_text(path, named.replace("<svg", tag, 1) + inner + "\n")


def figure_rules() -> str:
    """The style sheet of drawings without its colours, which a page of others gives as custom properties."""
    sheet = _sheet("figure.css")
    return sheet[sheet.index("\nsvg") :]


def _sheet(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def tile(name: str | Markup, value: float | str, *notes: str | None) -> Markup:
    """A headline number: its name above, notes below."""
    shown = value if isinstance(value, str) else f"{value:.4f}" if math.isfinite(value) else "–"
    under = [element("dd", note, class_="note") for note in notes if note]
    return element("div", element("dt", name), element("dd", shown), *under)


def listed(place: int, listing: Listing, *, words: bool = False, dense: bool = False) -> Markup:
    """A table as a section with a heading of its own; one of `words` breaks its lines, a `dense` one is small."""
    head = [element("th", name, scope="col") for name in listing.columns]
    rows = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:]))
        for row in listing.rows
    ]
    caption = element("figcaption", element("b", f"Table {place}. {listing.title}."), " ", listing.told)
    table = element(
        "table",
        element("thead", element("tr", *head)),
        element("tbody", *rows),
        aria_label=listing.title,
        class_="words" if words else "dense" if dense else None,
    )
    scrolled = element("div", table, class_="scroll", role="region", aria_label=f"Table {place}", tabindex=0)
    return element("section", element("h2", listing.title), element("figure", caption, scrolled))


def repeat(facts: Mapping[str, object]) -> Markup | None:
    """How to repeat it: facts by name, None without any."""
    if not facts:
        return None
    rows = [
        element("tr", element("th", name, scope="row"), element("td", _fact(name, str(value))))
        for name, value in facts.items()
    ]
    table = element("table", element("tbody", *rows), class_="facts")
    return element("section", element("h2", "How to repeat it"), table)


def _fact(name: str, value: str) -> Markup:
    return element("code", value) if name.casefold() == "command" else join(value)


def next_commands(commands: Sequence[str]) -> Markup | None:
    """What to run next: shell commands, with what follows " # " as comments; None without any."""
    if not commands:
        return None
    lines = []
    for command in commands:
        run, mark, comment = command.partition(" # ")
        lines.append(join(run, element("span", f"{mark}{comment}", class_="comment") if mark else None))
    return element("section", element("h2", "What next"), element("pre", element("code", join(*lines, between="\n"))))
