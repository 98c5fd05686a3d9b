"""What `carpus pseudo` found about the labels of a folder, ready to be shown: which it left out and why, of which
pixels nobody is sure, and where the labels come from.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carpus.errors import DataError
from carpus.labels import Classes
from carpus.pseudo import provenance, trust
from carpus.pseudo.criteria import MEASURES
from carpus.viewer.layers import Entry

_HASH_SHOWN = 12


@dataclass(frozen=True)
class Overview:
    """What was left out of all images.

    Args:
        left_out: the bones, by the name of an entry; entries about which nothing was found are absent.
        agreement: by entry and bone, where it was measured.
        faults: files that could not be read.
    """

    left_out: Mapping[str, frozenset[str]]
    agreement: Mapping[str, Mapping[str, float]]
    faults: tuple[str, ...] = ()

    def count(self, name: str, bone: str = "") -> float:
        """How many bones of an entry were left out, or whether `bone` was (1 or 0); NaN where nothing was found."""
        left_out = self.left_out.get(name)
        return math.nan if left_out is None else float(bone in left_out if bone else len(left_out))

    def lowest(self, name: str, bone: str = "") -> float:
        """The agreement of the members on the bone that they agree on least, or on `bone`; NaN where not known."""
        known = self.agreement.get(name, {})
        return known.get(bone, math.nan) if bone else min(known.values(), default=math.nan)


@dataclass(frozen=True)
class Selection:
    """What was found about the labels of one folder; read when asked for.

    Args:
        root: the data folder.
        classes: its classes.
    """

    root: Path
    classes: Classes

    def found(self, entry: Entry) -> trust.Found | None:
        """What was found about the labels of an entry; None where nothing was. Raises `DataError` as `trust.read`."""
        return trust.read(self.root, entry.name, entry.size, self.classes)

    def overview(self, entries: Sequence[Entry], progress: Callable[[int, int], object] | None = None) -> Overview:
        """What was left out of all of `entries`; `progress` is called with (entries done, entries in all)."""
        left_out: dict[str, frozenset[str]] = {}
        agreement: dict[str, dict[str, float]] = {}
        faults: list[str] = []
        for done, entry in enumerate(entries, start=1):
            try:
                found = self.found(entry)
            except DataError as error:
                faults.append(str(error))
                found = None
            if found:
                left_out[entry.name] = frozenset(bone for bone, each in found.bones.items() if not each.kept)
                agreement[entry.name] = {
                    bone: value
                    for bone, each in found.bones.items()
                    if (value := _number(each.measures.get("agreement"))) is not None
                }
            if progress:
                progress(done, len(entries))
        return Overview(left_out, agreement, tuple(faults))

    def told(self, entry: Entry) -> dict[str, Any] | None:
        """What the browser shows of an entry; None where nothing was found.

        Returns:
            {"bones": {name: {"kept", "reasons", "why", "measures": [{"name", "meaning", "value", "limit",
            "against"}]}}, "summary": "3 of 29 bones left out: agreement 2, size 1"}, everything in words but "kept"
            and "against".
        """
        found = self.found(entry)
        if found is None:
            return None
        rules = self._rules()
        bones = {bone: _told(each, rules.get(bone, {})) for bone, each in found.bones.items()}
        reasons = Counter(reason for each in found.bones.values() if not each.kept for reason in each.reasons)
        count = sum(not each.kept for each in found.bones.values())
        why = ", ".join(f"{reason} {times}" for reason, times in reasons.most_common())
        return {"bones": bones, "summary": f"{count} of {len(bones)} bones left out{why and f': {why}'}"}

    def origin(self) -> dict[str, Any]:
        """Where the labels come from, in words.

        Returns:
            {"summary": "0 of 116 bones kept", "advice", "made", "sources": [{"path", "hash", "hashes", "seen"}]}, or
            {"summary"} that says why nobody knows.
        """
        try:
            known = provenance.read(self.root)
        except DataError as error:
            return {"summary": str(error), "sources": []}
        content = known.content
        bones = len(known.images) * len(self.classes)
        settings = content.get("settings")
        settings = settings if isinstance(settings, dict) else {}
        made = [f"carpus {content.get('carpus', '?')}", *(f"{name} {value}" for name, value in settings.items())]
        return {
            # The share has five digits, which is exact up to 3,400 images of 29 bones.
            "summary": f"{round(content['kept'] * bones):,} of {bones:,} bones kept",
            "advice": known.advice(),
            "made": ", ".join(made),
            "sources": [_source(source) for source in content["sources"]],
        }

    def _rules(self) -> Mapping[str, Mapping[str, Any]]:
        """The limits by bone and measure, as far as they are known."""
        try:
            rules = provenance.read(self.root).content.get("rules")
        except DataError:  # `origin` says so
            return {}
        rules = rules if isinstance(rules, dict) else {}
        return {bone: limits for bone, limits in rules.items() if isinstance(limits, dict)}


def _told(bone: trust.Bone, limits: Mapping[str, Any]) -> dict[str, Any]:
    rows = []
    for name, measure in MEASURES.items():
        value, limit = _number(bone.measures.get(name)), _number(limits.get(name))
        if value is None:
            continue
        bound = "" if limit is None or measure.flag else f"{'≥' if measure.low else '≤'} {limit:.3g}"
        shown = ("yes" if value else "no") if measure.flag else f"{value:.3g}"
        rows.append(
            {
                "name": name,
                "meaning": measure.meaning,
                "value": shown,
                "limit": bound,
                "against": name in bone.reasons,
            }
        )
    return {
        "kept": bone.kept,
        "reasons": list(bone.reasons),
        "why": "kept" if bone.kept else f"left out: {', '.join(_why(name, rows, limits) for name in bone.reasons)}",
        "measures": rows,
    }


def _why(reason: str, rows: Sequence[Mapping[str, Any]], limits: Mapping[str, Any]) -> str:
    """A reason with its number, as in "agreement 0.81, not ≥ 0.9"."""
    if reason == "quota":
        quota = _number(limits.get("quota"))
        return reason if quota is None else f"quota, {quota:.0%} of this bone at most are kept"
    row = next((row for row in rows if row["name"] == reason and row["limit"]), None)
    return f"{reason} {row['value']}, not {row['limit']}" if row else reason


def _source(source: Mapping[str, Any]) -> dict[str, str]:
    """A source in words; `hash` is short, `hashes` whole and, of a run, of every file."""
    digest, seen = source.get("sha256"), provenance.Seen.read(source["seen"])
    hashes = digest if isinstance(digest, dict) else {"": digest}
    # A run is known by its weights.
    chosen = next((of for name, of in hashes.items() if "weights" in str(name)), next(iter(hashes.values()), None))
    return {
        "path": str(source.get("path", "?")),
        "hash": str(chosen or "no hash")[:_HASH_SHOWN],
        "hashes": "\n".join(f"{of}  {name}".strip() for name, of in hashes.items()),
        "seen": _seen(seen),
    }


def _seen(seen: provenance.Seen) -> str:
    if not seen.patients:
        return "nobody knows which patients it saw" if seen.unknown else "saw no patient"
    count = len(seen.patients)
    return f"saw {count} patient{'s' if count > 1 else ''}{' and others of whom nobody knows' if seen.unknown else ''}"


def _number(value: object) -> float | None:
    """A number of a JSON file, None for anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
