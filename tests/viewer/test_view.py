"""The view and its address."""

from hypothesis import given
from hypothesis import strategies as some

from carpus.viewer.view import UNFILTERED, View

VIEWS = some.builds(
    View,
    case=some.text(max_size=20),
    both=some.booleans(),
    low=some.sampled_from([0.0, 0.25, 0.9]),
    order=some.sampled_from(["name", "worst", "mean", "bone"]),
    style=some.sampled_from(["outline", "fill", "none"]),
    compare=some.sampled_from(["first", "second", "difference", "swipe", "blink"]),
    opacity=some.sampled_from([0.0, 0.35, 1.0]),
    gamma=some.sampled_from([0.3, 1.0, 2.5]),
    invert=some.booleans(),
    bones=some.sampled_from(["", "Radius,Ulna"]),
    change=some.text(max_size=20),
    seed=some.integers(0, 10_000),
    outlined=some.booleans(),
)


def test_no_filter_is_left_where_all_are_taken_back() -> None:
    view = View(
        split="val",
        sex="F",
        pose="bent",
        thumb="left",
        search="x",
        labelled="missing",
        left_out="yes",
        judged="no",
        low=0.2,
        high=0.9,
    )
    assert view.but(**UNFILTERED) == View()


def test_the_two_ends_of_the_dice_are_one_filter() -> None:
    assert View(case="a", order="worst", bone="Radius").filters == []
    assert View(low=0.2, high=0.9, sex="F").filters == ["sex", "low"]
    assert View(high=0.9, judged="no").filters == ["judged", "high"]


@given(VIEWS)
def test_the_address_holds_the_view(view: View) -> None:
    assert View.read(view.address()) == view


def test_what_is_usual_is_not_in_the_address() -> None:
    assert View().address() == {}
    assert View(case="a", both=True).address() == {"case": "a", "both": "1"}


def test_nonsense_in_an_address_changes_nothing() -> None:
    address = {"low": "x", "high": "7", "order": "<script>", "opacity": "nan", "unknown": "1", "style": ""}
    address |= {"seed": "2.5"}
    assert View.read(address) == View()
