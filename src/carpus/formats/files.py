"""Files that are written whole or not at all, names that stay in their folder, JSON that means one thing."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from carpus.errors import DataError

MAX_JSON_BYTES = 1 << 30


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Give a temporary path to write to; when the block ends well it becomes `path`, else it is removed.

    The file is flushed to disk before the rename and its folder after it, so that a crash at any moment leaves
    the earlier file or the whole new one. Parent folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes the file readable for its owner only; a finished file follows the umask as any other.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path | str, content: Any, indent: int | None = None) -> None:
    """Write `content` as JSON (UTF-8, no NaN) to `path`, whole or not at all."""
    write_text(path, json.dumps(content, ensure_ascii=False, allow_nan=False, indent=indent))


def read_json(path: Path | str) -> Any:
    """Read a JSON file strictly: UTF-8 (a BOM is allowed), no NaN or infinity, no key twice, no absurd depth.

    Raises:
        DataError: naming the file and what is wrong.
    """
    path = Path(path)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise DataError(f"{path}: key {twice!r} appears twice in one object")
        return content

    def refuse(token: str) -> float:
        raise DataError(f"{path}: {token} is not a number that JSON allows")

    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise DataError(f"{path}: is larger than {MAX_JSON_BYTES >> 20} MiB, too large for a label file")
        text = path.read_bytes().decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (is it UTF-16? save it as UTF-8)") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {error.lineno}, column {error.colno}: not valid JSON ({error.msg})") from error
    except RecursionError as error:
        raise DataError(f"{path}: nested too deeply for a label file") from error
    except DataError:
        raise
    except ValueError as error:  # an integer of more digits than Python converts
        raise DataError(f"{path}: {error}") from error


def inside(folder: Path | str, name: str, source: str) -> Path:
    """`folder`/`name`, if that stays below `folder` (links followed) and the name is one every system can hold.

    Args:
        folder: the folder that must not be left.
        name: a relative path from a file's content, "/" between its parts.
        source: the file and field that said so, for the error.

    Raises:
        DataError: an absolute path, `..`, a NUL or another control character, a reserved name, or a link out.
    """
    parts = name.replace("\\", "/").split("/")
    reserved = {"CON", "PRN", "AUX", "NUL", *(f"{port}{digit}" for port in ("COM", "LPT") for digit in "123456789")}
    if not name or any(ord(character) < 32 for character in name):
        raise DataError(f"{source}: {name!r} is not a file name")
    if parts[0] == "" or ":" in name or ".." in parts:
        raise DataError(f"{source}: {name!r} leads out of its folder")
    if any(part.split(".")[0].upper() in reserved or part != part.rstrip(" .") for part in parts):
        raise DataError(f"{source}: {name!r} is a name that some systems reserve")
    folder = Path(folder)
    path = folder.joinpath(*parts)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{source}: {name!r} is a link out of {folder}")
    return path


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
