"""The page of a study, and beside it the same tables and figures as files."""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from carpus import run
from carpus.formats import files
from carpus.pictures import PREDICTION, TRUTH
from carpus.report import Listing
from carpus.report.document import document, figure_file, listed, repeat, require_place, tile
from carpus.report.findings import plural
from carpus.report.markup import Markup, element, join
from carpus.report.page import key
from carpus.study import omissions
from carpus.study.judgement import Judged, Judgement
from carpus.study.report import answers, arm_tables, by_class, contrast_tables, figures, words, worst, writers
from carpus.study.report.cells import signed
from carpus.study.spec import Cause, Pair, Study

_ORDER = ("better", "worse", "equivalent", "cannot tell")

_WORDS = ("flags", "claims", "regrets", "labels")
"""Tables of sentences, whose lines are broken."""


def write(
    page: Path,
    judgement: Judgement,
    *,
    title: str,
    lead: str = "",
    study: Study | None = None,
    cases: Sequence[worst.Shown] = (),
    facts: Mapping[str, object] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the page, and as files beside it what it shows.

    Of report.html, the page of a folder, they are in tables/ and figures/; of another x.html in x_tables/ and
    x_figures/, so that pages in one folder leave each other's files alone.

    Args:
        page: the HTML file; its folder is made.
        judgement: what was judged; at least one contrast.
        title: the heading.
        lead: what was asked.
        study: the study file, whose claims, regrets and published numbers are shown.
        cases: pictures, see `worst.collect`.
        facts: how to repeat it.
        notes: what a reader must know before the verdicts, such as runs that failed.

    Raises:
        ConfigError, DataError: see `require_place`; nothing is written then.
    """
    require_place(page)
    listings = _every(judgement, study)
    drawn = _drawings(judgement)
    notes = [*notes, *(f"{told}." for told in omissions.sentences(judgement))]
    classes = next(iter(judgement.arms.values())).classes
    body = [
        _header(judgement, title, lead, notes),
        _figures(judgement, drawn),
        *(
            listed(place, listing, dense=len(listing.columns) > 9, words=name in _WORDS)
            for place, (name, listing) in enumerate(_shown(listings).items(), start=1)
        ),
        _worst(cases, worst.gallery(list(cases), classes)),
        _method(judgement),
        repeat(facts or {}),
    ]
    page.parent.mkdir(parents=True, exist_ok=True)
    prefix = "" if page.name == "report.html" else f"{page.stem}_"
    tables, pictures = (page.parent / f"{prefix}{kind}" for kind in ("tables", "figures"))
    _write_tables(tables, listings, title, notes)
    pictures.mkdir(exist_ok=True)
    for name, drawing in drawn.items():
        figure_file(pictures / f"{name}.svg", drawing)
    document(page, title, *body)


def facts(judgement: Judgement, command: str, study: Path | None = None) -> dict[str, object]:
    """How to repeat what was judged: the command, and hashes of what decided the result.

    Args:
        judgement: what was judged.
        command: the one command.
        study: the study file.
    """
    runs = {outcome.path: outcome for arm in judgement.arms.values() for outcome in arm.runs}
    found: dict[str, object] = {"Command": command}
    if study is not None:
        found["Study file, SHA-256"] = files.sha256(study)
    data = [outcome.manifest.get("data", {}) for outcome in runs.values()]
    for part in ("all", "val"):
        known = {str(of[part].get("images")): of[part] for of in data if isinstance(of.get(part), Mapping)}
        if len(known) == 1:
            found[f"Data, {part}"] = ", ".join(f"{name} {value}" for name, value in next(iter(known.values())).items())
        elif known:
            found[f"Data, {part}"] = f"{len(known)} different sets, one a fold"
    hashes = [outcome.manifest.get("files", {}).get(run.WEIGHTS) for outcome in runs.values()]
    weights = sorted(filter(None, hashes))
    if weights:
        told = hashlib.sha256("".join(weights).encode()).hexdigest()
        found["Weights"] = f"{plural(len(weights), 'run')}; SHA-256 of their hashes, sorted: {told}"
    commits = {
        git["commit"] + (", changed" if git.get("changed") else "")
        for outcome in runs.values()
        if (git := outcome.manifest.get("environment", {}).get("git"))
    }
    if commits:
        found["Code"] = ", ".join(sorted(commits))
    return found | run.versions()


def findings(judgement: Judgement) -> list[tuple[str, str]]:
    """Verdict and sentence of every contrast, decided ones first, the largest differences first; then those without."""
    judged = sorted(judgement.judged, key=lambda each: (_ORDER.index(each.word), -abs(each.difference)))
    told = [(each.word, _sentence(each, words.told_on_val(judgement, each.pair))) for each in judged]
    return [*told, *(("not judged", _why_not(pair, judgement)) for pair in judgement.absent)]


def _why_not(pair: Pair, judgement: Judgement) -> str:
    lacking = " and ".join(name for name in pair if name not in judgement.arms)
    return f"{pair}: no finished run of {lacking}."


def _sentence(each: Judged, on_val: str) -> str:
    told = f"{each.pair}: {signed(each.difference)}"
    if each.interval:
        told += f" ({signed(each.interval[0])} to {signed(each.interval[1])})"
    if min(each.dice.seeds) < 2:
        told += "; one seed tells nothing of the method"
    if each.word == "cannot tell":
        told += f"; {words.needed(each)}"
    kinds = ["another budget" if flag.kind is Cause.BUDGET else str(flag.kind) for flag in each.flags]
    flagged = f" Flagged: {', '.join(kinds)}." if kinds else ""
    return f"{told}.{flagged} {on_val[:1].upper()}{on_val[1:]}." if on_val else f"{told}.{flagged}"


def _header(judgement: Judgement, title: str, lead: str, notes: Sequence[str]) -> Markup:
    count, on_val = (Counter(each.word for each in of) for of in (judgement.judged, judgement.on_val))
    tiles = [
        tile(word.capitalize(), str(count[word]), f"on Val: {on_val[word]}" if on_val else None) for word in _ORDER
    ]
    detectable = [each.detectable for each in judgement.judged if math.isfinite(each.detectable)]
    where = "test" if judgement.on_test else "validation"
    sizes = " × ".join(words.design(judgement.judged))
    tiles.append(tile("Seeds × patients", sizes, f"{plural(len(judgement.arms), 'arm')}, {where} patients"))
    if detectable:
        ends = dict.fromkeys(f"{end:.4f}" for end in (min(detectable), max(detectable)))
        tiles.append(tile("Detectable", "–".join(ends), "smallest true difference a contrast shows, power 0.8"))
    lines = [
        element("li", element("b", word, class_=word.replace(" ", "-")), sentence)
        for word, sentence in findings(judgement)
    ]
    return element(
        "header",
        element("h1", title),
        element("p", lead, class_="lead") if lead else None,
        *(element("p", note, class_="note") for note in notes),
        element("dl", *tiles, class_="headline"),
        element("ul", *lines, class_="verdicts"),
    )


def _drawings(judgement: Judgement) -> dict[str, Markup]:
    drawn = {
        "differences": figures.forest(judgement),
        "seeds": figures.seeds(judgement),
        "cost": figures.cost(judgement),
        "classes": by_class.classes(judgement),
        "learning": figures.learning(judgement.arms),
    }
    return {name: drawing for name, drawing in drawn.items() if drawing is not None}


_CAPTIONS = {
    "differences": (
        "Differences.",
        "Difference of mean Dice with its 95 % interval over patients and seeds. Colour and shape are the verdict, "
        "which is Holm-corrected: an interval beside zero can still be undecided.",
    ),
    "seeds": ("Seeds.", "Every run's mean Dice; the line is the mean of the arm."),
    "cost": ("Cost.", "What training took, that of the runs that an arm started from included, and what it gave."),
    "classes": ("Classes.", "Where a difference comes from; carpals first."),
    "learning": ("Learning curves.", "Validation Dice, the mean over an arm's runs."),
}


def _figures(judgement: Judgement, drawn: Mapping[str, Markup]) -> Markup:
    sides: list[list[Markup]] = [[], []]
    for place, (name, drawing) in enumerate(drawn.items(), start=1):
        title, told = _CAPTIONS[name]
        caption = element("figcaption", element("b", f"Figure {place}. {title}"), " ", told)
        sides[name in ("classes", "learning")].append(element("figure", caption, drawing))
    shown = [element("div", *side) for side in sides if side]
    return element("section", element("h2", "Figures"), element("div", *shown, class_="figures"))


def _every(judgement: Judgement, study: Study | None) -> dict[str, Listing]:
    """All tables by file name, in the order of the page; those without rows are absent."""
    found = {
        "verdicts": contrast_tables.verdicts(judgement),
        "verdicts_on_val": contrast_tables.verdicts_on_val(judgement),
        "scores": arm_tables.scores(judgement, study),
        "flags": contrast_tables.warnings(judgement),
    }
    if study is not None:
        found |= {"claims": answers.claims(judgement, study), "regrets": answers.regrets(judgement, study)}
    found |= {
        "borders": arm_tables.borders(judgement),
        "labels": arm_tables.labels(judgement),
        "costs": arm_tables.costs(judgement),
        "classes": contrast_tables.by_class(judgement),
    }
    return {name: listing for name, listing in found.items() if listing.rows}


def _shown(listings: Mapping[str, Listing]) -> dict[str, Listing]:
    """The tables of the page: the differences by class are a figure there."""
    return {name: listing for name, listing in listings.items() if name != "classes"}


def _worst(cases: Sequence[worst.Shown], gallery: Markup | None) -> Markup | None:
    if gallery is None:
        return None
    keys = [key(TRUTH, "", "annotation"), key(PREDICTION, "", "prediction")]
    told = join("The first seed of every arm on the same image. ", join(*keys, between=" · "), ".")
    title = "Worst cases" if len(cases) > 1 else "Worst case"
    return element("section", element("h2", title), element("p", told, class_="note"), gallery)


def _method(judgement: Judgement) -> Markup:
    told = (
        "The unit is the patient; a claim about a method allows for patients and for training seeds, crossed. Patients "
        "are resampled and studentised, seeds have Student's t with Welch's degrees of freedom, each arm its own "
        "variance, and are paired only where two arms' runs share a training. Simulated studies give at most 5 % false "
        f"positives with 2, 3, 5 and 8 seeds (docs/studies.md). A difference proven to be below {judgement.margin:g} "
        "is called equivalent. With one seed the verdict is cannot tell, whatever the difference. Intervals hold for "
        "this data set and its split."
    )
    return element("section", element("h2", "Method"), element("p", told))


def _write_tables(folder: Path, listings: Mapping[str, Listing], title: str, notes: Sequence[str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, listing in listings.items():
        files.write_text(folder / f"{name}.csv", writers.comma_separated(listing))
    head = "".join(f"{line}\n\n" for line in (f"# {title}", *notes))
    files.write_text(folder / "tables.md", head + "\n".join(map(writers.markdown, listings.values())))
    remarks = "".join(f"% {note}\n" for note in notes)
    files.write_text(folder / "tables.tex", remarks + "\n".join(map(writers.latex, listings.values())))
