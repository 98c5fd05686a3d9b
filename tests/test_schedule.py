"""The rate as a function of the step, and what a longer run makes of it."""

import pytest

from carpus import schedule
from carpus.config import Train
from carpus.errors import ConfigError


def rates(**options: object) -> list[float]:
    made = Train(learning_rate=1.0, **options)  # pyright: ignore[reportArgumentType]
    return [schedule.rate(step, made) for step in range(made.steps)]


@pytest.mark.parametrize("shape", ["cosine", "poly"])
def test_the_rate_rises_and_falls(shape: str) -> None:
    found = rates(steps=100, warmup=0.1, schedule=shape)
    assert found[:11] == sorted(found[:11])
    assert found[10:] == sorted(found[10:], reverse=True)
    assert max(found) == found[10] == 1.0
    assert 0 < found[99] < 0.02


def test_the_shapes_are_what_their_names_say() -> None:
    assert rates(steps=4, warmup=0, schedule="constant") == [1.0] * 4
    assert rates(steps=4, warmup=0, schedule="poly", power=2.0) == pytest.approx([1, 9 / 16, 4 / 16, 1 / 16])
    assert rates(steps=4, warmup=0)[2] == pytest.approx(0.5)
    assert rates(steps=100, warmup=1)[99] < 1.0


def test_a_horizon_is_what_the_schedule_is_made_for() -> None:
    assert rates(steps=50, horizon=100) == rates(steps=100)[:50]
    with pytest.raises(ConfigError, match=r"train\.horizon: 99 ends before the last of the 100 steps"):
        rates(steps=100, horizon=99)


@pytest.mark.parametrize(
    "options", [{"schedule": "constant", "warmup": 0.0}, {"horizon": 31}, {"schedule": "poly", "horizon": 40}]
)
def test_a_longer_run_is_the_run_of_so_many_steps_where_the_rates_agree(options: dict[str, object]) -> None:
    short = Train(steps=25, **options)  # pyright: ignore[reportArgumentType]
    longer, same = schedule.lengthened(short, 25, 31)
    assert same
    assert longer == short.model_copy(update={"steps": 31})


def test_elsewhere_the_schedule_starts_anew() -> None:
    longer, same = schedule.lengthened(Train(steps=25, learning_rate=1.0, warmup=0.0), 25, 31)
    assert not same
    assert (longer.schedule_start, longer.steps) == (25, 31)
    assert schedule.rate(25, longer) == 1.0
    assert schedule.rate(28, longer) == pytest.approx(0.5)
    assert [schedule.progress(step, longer) for step in (25, 30)] == [0, 1]
    twice, _ = schedule.lengthened(longer, 31, 41)
    assert twice.schedule_start == 31


def test_fewer_steps_are_no_longer_run() -> None:
    with pytest.raises(ConfigError, match="the run has 25 steps already"):
        schedule.lengthened(Train(steps=25), 25, 25)
