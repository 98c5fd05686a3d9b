"""What is finished stays finished, whatever happened to the end of the file."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from carpus import journal
from carpus.errors import DataError

RUNS = [np.array([[0, 3], [9, 1]]), np.empty((0, 2), np.int64), np.array([[2, 200]])]


class StoppedError(Exception):
    pass


def left(path: Path, *names: str) -> None:
    """A journal that was stopped after these images."""
    with suppress(StoppedError), journal.opened(path, "p") as open_journal:
        for name in names:
            open_journal.add(name, "stamp", (20, 30), RUNS)
        raise StoppedError


def test_what_was_added_before_a_stop_is_there_after_it(tmp_path: Path) -> None:
    path = tmp_path / "out.partial"
    left(path, "a", "b/ü.png")
    with journal.opened(path, "p") as again:
        assert len(again) == 2
        assert again.holds("b/ü.png", "stamp")
        assert not again.holds("b/ü.png", "another stamp")
        assert not again.holds("c", "stamp")
        size, runs = again.read("b/ü.png")
        assert size == (20, 30)
        assert all(np.array_equal(mine, theirs) for mine, theirs in zip(runs, RUNS, strict=True))
        again.add("c", "stamp", (1, 1), RUNS[::-1])
        assert again.read("c")[1][0].tolist() == [[2, 200]]
        assert again.read("a")[1][0].tolist() == RUNS[0].tolist()
    assert not path.exists()


def test_a_record_cut_anywhere_is_dropped_and_those_before_it_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.partial"
    left(path, "a")
    whole = path.read_bytes()
    left(path, "b")
    both = path.read_bytes()
    assert both.startswith(whole)
    for end in (*range(len(whole), len(both), 7), len(both) - 1):
        path.write_bytes(both[:end])
        left(path, "c")
        with journal.opened(path, "p") as again:
            assert [again.holds(name, "stamp") for name in "abc"] == [True, False, True]


def test_a_flipped_bit_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "out.partial"
    left(path, "a", "b")
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 1
    path.write_bytes(damaged)
    with journal.opened(path, "p") as again:
        assert again.holds("a", "stamp")
        assert not again.holds("b", "stamp")


def test_another_predictions_journal_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "out.partial"
    left(path, "a")
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"out\.partial: is what another prediction left"), journal.opened(path, "q"):
        pass
    assert path.read_bytes() == before


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.partial"
    with (
        journal.opened(path, "p") as first,
        pytest.raises(DataError, match="another process"),
        journal.opened(path, "p"),
    ):
        first.add("a", "stamp", (1, 1), RUNS)


def test_an_empty_journal_does_not_stay(tmp_path: Path) -> None:
    left(tmp_path / "out.partial")
    assert not list(tmp_path.iterdir())


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_names_the_journal_and_keeps_what_was_added(tmp_path: Path) -> None:
    path = tmp_path / "out.partial"
    left(path, "a")
    with room(path.stat().st_size + 20), pytest.raises(OSError, match=r"out\.partial'$"):
        left(path, "b")
    with journal.opened(path, "p") as again:
        assert [again.holds(name, "stamp") for name in "ab"] == [True, False]


def test_an_error_of_others_is_not_named_by_the_journal(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match=r"^nobody there$"), journal.opened(tmp_path / "out.partial", "p"):
        raise ConnectionError("nobody there")
