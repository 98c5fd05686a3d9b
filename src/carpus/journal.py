"""What is finished of a prediction under way: one file that only grows, so that an interrupted one goes on.

A first line says what is being predicted; then every image has a line of JSON and its runs, compressed::

    {"prediction": "<SHA-256>"}
    {"name": "ID001/a.png", "stamp": "5213-1700", "size": [2048, 2048], "counts": [12, ...], "bytes": 7310, "crc": 1}
    <7310 bytes>

A record that was cut off by a crash, and what follows it, is dropped when the file is opened again.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from carpus.errors import DataError
from carpus.formats import files
from carpus.kernels import Runs


class Journal:
    """An open journal; see `opened`. Appending and reading are for one thread at a time."""

    def __init__(self, path: Path, stream: BinaryIO, records: dict[str, tuple[int, str]], end: int) -> None:
        self._path, self._stream, self._records, self._end = path, stream, records, end

    def __len__(self) -> int:
        return len(self._records)

    def holds(self, name: str, stamp: str) -> bool:
        """Whether the image `name` is there and was the same file, as `stamp` tells."""
        return name in self._records and self._records[name][1] == stamp

    def __contains__(self, name: str) -> bool:
        return name in self._records

    def forget(self, name: str) -> None:
        """An image whose file is another one by now."""
        self._records.pop(name, None)

    def add(self, name: str, stamp: str, size: tuple[int, int], runs: Sequence[Runs]) -> None:
        """Append the runs of an image of `size` (H, W); what was known of that name before is forgotten.

        Raises:
            OSError: naming the journal, when the disk is full.
        """
        payload = zlib.compress(np.concatenate(runs).astype("<i8").tobytes(), 1)
        counts = [len(of) for of in runs]
        head = {"name": name, "stamp": stamp, "size": list(size), "counts": counts, "bytes": len(payload)}
        record = json.dumps(head | {"crc": zlib.crc32(payload)}).encode() + b"\n" + payload
        with _named(self._path):
            self._stream.seek(self._end)
            self._stream.write(record)
            self._stream.flush()
        self._records[name] = self._end, stamp
        self._end += len(record)

    def read(self, name: str) -> tuple[tuple[int, int], list[Runs]]:
        """Size (H, W) and runs of an image that was added."""
        self._stream.seek(self._records[name][0])
        record = _record(self._stream)
        assert record is not None, "a journal is locked while it is open"
        head, payload = record
        runs = np.frombuffer(zlib.decompress(payload), "<i8").astype(np.int64).reshape(-1, 2)
        return tuple(head["size"]), np.split(runs, np.cumsum(head["counts"])[:-1])


@contextmanager
def opened(path: Path, prediction: str) -> Iterator[Journal]:
    """Open the journal at `path`, or begin it; it stays when the block raises, if there is anything in it.

    Args:
        path: the file; its folder is made.
        prediction: what is being predicted, a hash of networks and settings.

    Raises:
        DataError: the file is another prediction's, is no journal (and is left as it is), or another process writes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _opened(path) as stream:
        if not files.hold(stream):
            raise DataError(f"{path}: another process is predicting into it")
        head = json.dumps({"prediction": prediction}).encode() + b"\n"
        stream.seek(0)
        found = stream.readline(1 << 12)
        if not head.startswith(found):  # a part of it was cut off by a crash
            raise DataError(
                f"{path}: is what another prediction left unfinished, with other runs or settings; remove it, or name "
                "another --out"
            )
        records, end = _records(stream) if found == head else ({}, 0)
        stream.truncate(end)
        if not end:
            stream.write(head)
            end = len(head)
        journal = Journal(path, stream, records, end)
        try:
            yield journal
        except BaseException:
            if not len(journal):
                path.unlink(missing_ok=True)
            raise
        path.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    stream = path.open("a+b")
    try:
        yield stream
    finally:
        with _named(path):  # what a full disk did not take is tried again
            stream.close()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """A full disk names no file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _records(stream: BinaryIO) -> tuple[dict[str, tuple[int, str]], int]:
    """Where every whole record begins, with its stamp, and where the last of them ends."""
    found: dict[str, tuple[int, str]] = {}
    end = stream.tell()
    while (record := _record(stream)) is not None:
        found[record[0]["name"]] = end, record[0]["stamp"]
        end = stream.tell()
    return found, end


def _record(stream: BinaryIO) -> tuple[dict, bytes] | None:
    line = stream.readline()
    try:
        head = json.loads(line)
        payload = stream.read(head["bytes"])
        return (head, payload) if zlib.crc32(payload) == head["crc"] else None
    except (ValueError, KeyError, TypeError):
        return None
