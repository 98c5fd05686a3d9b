"""By what pseudo-labels are judged: the names of the measures, what each means, and the limits it has by itself.

Apart from `measures`, which computes them, because whoever only shows them needs no network.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One number about a label.

    Args:
        meaning: one phrase.
        limit: what a label must have at least, or at most, unless the limit was tuned.
        low: whether a low value speaks against the label, and not a high one.
        tuned: whether the limit may be tuned; what is a fault in itself has a fixed one.
        flag: whether it is 0 or 1.
    """

    meaning: str
    limit: float
    low: bool = False
    tuned: bool = True
    flag: bool = False


MEASURES: Mapping[str, Measure] = {
    "missing": Measure("1 where nothing is labelled", 0.5, tuned=False, flag=True),
    "agreement": Measure("lowest Dice of the label with a member's", 0.9, low=True),
    "confidence": Measure("mean probability within the label", 0.85, low=True),
    "border": Measure("pixels of a probability between 0.2 and 0.8, as a part of the label's", 0.3),
    "edge": Measure(
        "distance of the outline from the image's border nearby, 0.5 is chance; see `edge.distances`", 0.35
    ),
    "place": Measure("deviation of the centroid from where the other bones put it", 4.0),
    "size": Measure("deviation of the area from what the other bones lead one to expect, either way", 4.0),
    "shape": Measure("deviation of the outline's elongation from the bone's own, either way", 4.0),
    "pieces": Measure("part of the label that is not connected with its largest piece", 0.01, tuned=False),
    "holes": Measure("area of holes, as a part of the label's", 0.01, tuned=False),
    "swapped": Measure(
        "1 where the hand is much likelier with this label and another exchanged", 0.5, tuned=False, flag=True
    ),
    "mirrored": Measure(
        "1 where fingers, carpals and forearm run different ways from the thumb", 0.5, tuned=False, flag=True
    ),
}
"""By name, in the order of the columns. One that could not be measured is NaN, and speaks neither for nor against."""
