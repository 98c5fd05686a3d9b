"""Files that are written whole or not at all, names that stay in their folder, locks, JSON that means one thing."""

import hashlib
import json
import math
import os
import re
import secrets
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from carpus.errors import DataError

MAX_JSON_BYTES = 1 << 30

_DRIVE = re.compile(r"[A-Za-z]:")
_RESERVED = re.compile(r'(?i)(CON|PRN|AUX|NUL|COM\d|LPT\d)(\.|$)|.*[<>:"|?*]')


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Give a temporary path to write to; when the block ends well it becomes `path`, else it is removed.

    The file is flushed to disk before the rename and its folder after it, so that a crash at any moment leaves
    the earlier file or the whole new one. Parent folders are made. The temporary name starts with a dot.

    Raises:
        OSError: naming `path`, when the disk is full or the folder cannot be written to.
    """
    path = Path(path)
    # The suffix stays last: writers such as pandas and torch choose the format by it.
    temporary = path.with_name(f".{path.stem[:64]}.{secrets.token_hex(6)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.open("xb").close()
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        # A full disk names no file at all, and the temporary name would tell the user nothing.
        if error.errno is not None and (error.filename is None or str(error.filename) == str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
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
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                raise DataError(f"{path}: key {key[:80]!r} appears twice in one object")
            content[key] = value
        return content

    def refuse(token: str) -> float:
        raise DataError(f"{path}: {token[:80]} is not a number that JSON allows")

    def finite(token: str) -> float:
        number = float(token)
        return number if math.isfinite(number) else refuse(token)

    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: is a folder or device; expected a JSON file")
        if path.stat().st_size > MAX_JSON_BYTES:
            raise DataError(f"{path}: is larger than {MAX_JSON_BYTES >> 20} MiB, too large for a label file")
        text = path.read_bytes().decode("utf-8-sig")
        content = json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_float=finite)
        if "\\ud" in text or "\\uD" in text:  # half a surrogate pair could be read here and written nowhere
            json.dumps(content, ensure_ascii=False).encode()
        return content
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (is it UTF-16? save it as UTF-8)") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: contains half a surrogate pair, which is no character") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {error.lineno}, column {error.colno}: not valid JSON ({error.msg})") from error
    except RecursionError as error:
        raise DataError(f"{path}: nested too deeply for a label file") from error
    except DataError:
        raise
    except ValueError as error:  # an integer of more digits than Python converts
        raise DataError(f"{path}: {error}") from error


def hold(file: IO[Any] | int, *, wait: bool = False) -> bool:
    """Lock an open file or folder against other processes until it is closed; False if another one has it.

    Windows has no such locks: nobody is kept out there.

    Args:
        file: the file, or a descriptor.
        wait: until the other one is done.
    """
    try:
        import fcntl
    except ImportError:
        return True
    if wait:
        fcntl.flock(file, fcntl.LOCK_EX)
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def require_own(path: Path, kind: str, is_own: Callable[[Path], bool]) -> None:
    """Raise `DataError`, before the work, if another file than one of the `kind` to be written is there."""
    if path.exists() and not is_own(path):
        raise DataError(f"{path}: is there already and is something else, no {kind}; it is not replaced")


def sha256(path: Path | str) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inside(folder: Path | str, name: str, source: str) -> Path:
    """`folder`/`name`, if that stays below `folder` (links followed) and the name is one every system can hold.

    Args:
        folder: the folder that must not be left.
        name: a relative path from a file's content, "/" between its parts.
        source: the file and field that said so, for the error.

    Raises:
        DataError: an absolute path, `..`, a NUL or another control character, a reserved name, more than 255 bytes
            in one part, or a link out.
    """
    quoted = repr(name if len(name) <= 80 else f"{name[:80]}…")
    parts = [part for part in name.replace("\\", "/").split("/") if part != "."]
    if name.startswith(("/", "\\")) or ".." in parts or (parts and _DRIVE.match(parts[0])):
        raise DataError(f"{source}: {quoted} leads out of its folder")
    if not any(parts) or any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise DataError(f"{source}: {quoted} is not a file name")
    if any(_RESERVED.match(part) or part != part.rstrip(" .") or len(part.encode()) > 255 for part in parts):
        raise DataError(f"{source}: {quoted} is a name that not every system can hold")
    folder = Path(folder)
    path = folder.joinpath(*parts)
    try:
        stays = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a link to itself
        stays = False
    if not stays:
        raise DataError(f"{source}: {quoted} is a link out of {folder}")
    return path


def _sync(path: Path) -> None:
    if os.name != "posix":  # Windows opens no folders and lets only the writer flush a file
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
