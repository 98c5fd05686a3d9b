"""The cases a report shows: which they are, and their pictures with truth and prediction."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from carpus import labels as label_map
from carpus import pictures
from carpus.errors import DataError
from carpus.labels import BONES, Classes, LabelMap
from carpus.report.markup import Markup, element, join
from carpus.report.numbers import SPLITS, Scores, read_scores

if TYPE_CHECKING:
    import pandas as pd

_HAND_PX, _GROUP_PX = 800, 640
_HAND_ASPECT, _GROUP_ASPECT = 4 / 5, 5 / 4
_QUALITY = 82


@dataclass(frozen=True)
class Pictured:
    """One case with what its picture needs.

    Args:
        case: its name, as in the scores.
        split: "val" or "test".
        image: (H, W) uint8.
        truth: (H, W) int32 label map.
        prediction: (H, W) int32 label map.
    """

    case: str
    split: str
    image: NDArray[np.uint8]
    truth: LabelMap
    prediction: LabelMap


def choose(scores: pd.DataFrame, classes: Classes = BONES, *, worst: int = 1) -> dict[str, list[str]]:
    """The best, the median and the worst cases of every split, by the mean Dice over classes.

    Args:
        scores: the table that `write` takes.
        classes: its classes.
        worst: how many of the worst.

    Returns:
        ``{"val": [best, median, ..., worst], "test": ...}``, no case twice.
    """
    chosen = {}
    for split, of_split in read_scores(scores, classes).items():
        order = list(of_split.by_case())
        wanted = {*_ranks(order).values(), *order[-worst:]}
        chosen[split] = [case for case in order if case in wanted]
    return chosen


def gallery(pictured: Iterable[Pictured], scores: Mapping[str, Scores], classes: Classes) -> Markup:
    """The pictures by split, best first: the whole hand and, if there is such a group, the carpals.

    Raises:
        DataError: a case that has no scores.
    """
    by_split: dict[str, list[Pictured]] = {split: [] for split in scores}
    for each in pictured:
        if each.split not in scores or each.case not in scores[each.split].by_case():
            raise DataError(f"pictures: {each.case}, {each.split}: has no Dice in the scores")
        by_split[each.split].append(each)
    rows = []
    for split, cases in by_split.items():
        dice = scores[split].by_case()
        cases.sort(key=lambda each: -dice[each.case])
        if cases:
            rows.append(element("h3", SPLITS[split], class_=split))
            shown = [_case(each, scores[split], classes) for each in cases]
            rows.append(element("div", *shown, class_="cases"))
    return join(*rows)


def _case(each: Pictured, scores: Scores, classes: Classes) -> Markup:
    dice = scores.by_case()
    order = list(dice)
    place = order.index(each.case) + 1
    rank = next((name for name, case in _ranks(order).items() if case == each.case), f"Rank {place}")
    caption = [element("b", f"{rank} of {len(order)}: {dice[each.case]:.4f}"), element("br"), element("bdi", each.case)]
    anything = each.truth if each.truth.any() else each.prediction
    hand = pictures.around(anything, classes, aspect=_HAND_ASPECT)
    told = f"{SPLITS[each.split]} case {each.case}, Dice {dice[each.case]:.4f}"
    shown = [_picture(each, classes, hand, _HAND_PX, f"{told}: whole hand, truth and prediction outlined")]
    group = "carpals"
    if group in classes.groups:
        of_group = scores.by_case(classes.groups[group]).get(each.case, math.nan)
        if math.isfinite(of_group):
            caption.append(Markup(f" · {group} {of_group:.4f}"))
        if any(label_map.has(anything, classes.index(name)).any() for name in classes.groups[group]):
            box = pictures.around(anything, classes, group, aspect=_GROUP_ASPECT)
            shown.append(_picture(each, classes, box, _GROUP_PX, f"{told}: the {group}, enlarged"))
    return element("div", element("p", *caption), element("div", *shown, class_="pair"), class_="case")


def _picture(each: Pictured, classes: Classes, box: pictures.Box, longest: int, told: str) -> Markup:
    drawn = pictures.overlay(
        each.image, each.prediction, reference=each.truth, classes=classes, box=box, longest=longest
    )
    height, width = drawn.shape[:2]
    return element("img", src=data_uri(drawn), alt=told, width=width, height=height)


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """A picture (H, W, 3) RGB for the page, a JPEG.

    Its colour is as fine as its grey: halved, thin coloured outlines would bleed.
    """
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        _QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        cv2.IMWRITE_JPEG_OPTIMIZE,
        1,
    ]
    _, encoded = cv2.imencode(".jpg", pixels[..., ::-1], options)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def _ranks(order: list[str]) -> dict[str, str]:
    """Best, median and worst of cases in order; with one case or two, no case twice."""
    if len(order) < 3:
        return dict(zip(("Best", "Worst") if len(order) == 2 else ("Only case",), order, strict=False))
    return {"Best": order[0], "Median": order[len(order) // 2], "Worst": order[-1]}
