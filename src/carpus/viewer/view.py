"""All of what is shown, as one value that the address holds: a link opens the same picture again."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Literal, get_args

Style = Literal["outline", "fill", "none"]
Compare = Literal["first", "second", "difference", "swipe", "blink"]
Order = Literal["name", "worst", "mean", "bone", "left_out", "agreement"]
Labelled = Literal["any", "yes", "no", "missing"]
LeftOut = Literal["any", "yes", "no"]
Judged = Literal["any", "no", "yes"]


@dataclass(frozen=True)
class View:
    """What is shown. A field that has its default is not in the address.

    Args:
        case: name of the entry; the first one chosen if empty or not there.
        first: layer of the labels, mostly the annotations.
        second: layer to compare with; empty for none.
        both: all hands of the patient side by side, at most two.
        split, sex, pose, thumb: show only entries of this kind; empty for all.
        search: show only entries whose name holds this.
        labelled: with labels in the first layer, without, or with bones missing.
        left_out: with bones that `carpus pseudo` left out, or without.
        judged: with bones that wait for a verdict ("no"), or without.
        bone: the bone that `low`, `high`, missing and left out bones and the orders but "worst" are about; empty for
            all of them.
        low, high: show only entries with a Dice between.
        order: "worst" is by the lowest bone, "bone" by `bone`, lowest first; "left_out" by how many bones were left
            out, most first; "agreement" by that of the members of `carpus pseudo` on the bone that they agree on least.
        style, compare: how labels are drawn, and which of them.
        opacity: of fills, 0 to 1.
        bones: the classes drawn, joined by commas; empty for all.
        chosen: the class that is picked out.
        window: lowest and highest grey value shown, "20-230".
        gamma: exponent's inverse: above 1 brightens.
        invert: white is black.
        doubt: whether pixels of which nobody is sure are hatched.
        at: centre and size of what is in sight, "x,y,scale" in label pixels and screen pixels a label pixel.
        folder: the data folder that Check is about; the first if empty or not there.
        levels: the severities that Check lists, joined by commas; empty for what matters.
        tab: what of Understand is open: a run, a study; the first if empty or not there.
        recipe, change, seed: whose augmentation is drawn, with which settings changed, and from which seed; no recipe
            for the usual one.
        outlined: the augmentation's bones are outlined.
    """

    case: str = ""
    first: str = ""
    second: str = ""
    both: bool = False
    split: str = ""
    sex: str = ""
    pose: str = ""
    thumb: str = ""
    search: str = ""
    labelled: Labelled = "any"
    left_out: LeftOut = "any"
    judged: Judged = "any"
    bone: str = ""
    low: float = 0.0
    high: float = 1.0
    order: Order = "name"
    style: Style = "outline"
    compare: Compare = "difference"
    opacity: float = 0.35
    bones: str = ""
    chosen: str = ""
    window: str = ""
    gamma: float = 1.0
    invert: bool = False
    doubt: bool = False
    at: str = ""
    folder: str = ""
    levels: str = ""
    tab: str = ""
    recipe: str = ""
    change: str = ""
    seed: int = 0
    outlined: bool = True

    @classmethod
    def read(cls, address: Mapping[str, str]) -> "View":
        """The view that the parameters of an address tell; what is unknown or makes no sense has its default."""
        known = {field.name: field for field in fields(cls)}
        found = {name: _value(known[name].default, name, text) for name, text in address.items() if name in known}
        return cls(**{name: value for name, value in found.items() if value is not None})

    def address(self) -> dict[str, str]:
        """The parameters that `read` turns back into this."""
        return {
            field.name: _text(value)
            for field in fields(self)
            if field.default is not MISSING and (value := getattr(self, field.name)) != field.default
        }

    def but(self, **changes: Any) -> "View":
        """The same with some fields changed."""
        return replace(self, **changes)

    @property
    def filters(self) -> list[str]:
        """The filters that are set; the two ends of the Dice are one."""
        found = [name for name, plain in UNFILTERED.items() if getattr(self, name) != plain]
        return [name for name in found if name != "high" or "low" not in found]


_FILTERS = ("split", "sex", "pose", "thumb", "search", "labelled", "left_out", "judged", "low", "high")

UNFILTERED = {name: getattr(View(), name) for name in _FILTERS}
"""What a view has that leaves no entry out."""

_CHOICES = {
    "style": get_args(Style),
    "compare": get_args(Compare),
    "order": get_args(Order),
    "labelled": get_args(Labelled),
    "left_out": get_args(LeftOut),
    "judged": get_args(Judged),
}

RANGES: dict[str, tuple[float, float]] = {
    "low": (0.0, 1.0),
    "high": (0.0, 1.0),
    "opacity": (0.0, 1.0),
    "gamma": (0.2, 5.0),
    "seed": (0, 10_000),
}


def _value(default: Any, name: str, text: str) -> Any:
    """What `text` says of a field, or None where it says nothing usable."""
    if isinstance(default, bool):
        return text == "1"
    if isinstance(default, int | float):
        low, high = RANGES[name]
        try:
            value = type(default)(text)
        except ValueError:
            return None
        return value if low <= value <= high else None
    return text if name not in _CHOICES or text in _CHOICES[name] else None


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(int(value)) if isinstance(value, int) else value
