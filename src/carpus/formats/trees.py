"""Folders of label files: found in one order, links that lead out refused, written whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from carpus.errors import DataError
from carpus.formats import files


def json_files(root: Path) -> list[tuple[Path, str]]:
    """Every JSON file below a folder, or the one file that `root` is, sorted by path, hidden ones left out.

    Returns:
        The path and, relative to the folder and without suffix, what it is called: "ID001/image1".

    Raises:
        DataError: nothing is there, or a link leads out of the folder.
    """
    if root.is_file():
        return [(root, root.stem)]
    found = [(path, name.rsplit(".", 1)[0]) for path, name in walk(root) if name.lower().endswith(".json")]
    if not found:
        raise DataError(f"{root}: holds no JSON files")
    return found


def walk(root: Path) -> list[tuple[Path, str]]:
    """Every file below `root` as its path and its name relative to it, sorted, hidden ones left out."""
    if not root.is_dir():
        raise DataError(f"{root}: there is no such file or folder")
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        for name in names:
            if not name.startswith("."):
                path = Path(folder, name)
                relative = path.relative_to(root).as_posix()
                if path.is_symlink():
                    files.inside(root, relative, str(root))
                found.append((path, relative))
    return sorted(found, key=lambda pair: pair[1].split("/"))


EARLIER = ".earlier"
"""Where files wait that are being replaced, until what replaces them is complete: all of them, or no such folder."""

_PART = f"{EARLIER}.part"
"""The same while they are on their way there or back."""


@contextmanager
def aside(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Put files and folders of `folder` aside while others are made in their place.

    When the block ends well they are removed, else they come back, and what was begun goes. A process that is killed
    leaves them in ``folder/.earlier``, from where the next call brings them back first.

    Args:
        folder: made if it is missing.
        names: see `put_aside`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bring_back(folder, names)
    put_aside(folder, names)
    try:
        yield
    except BaseException:
        _remove(folder / names[0])  # however late it failed, it is not complete
        bring_back(folder, names)
        raise
    shutil.rmtree(folder / EARLIER)


def put_aside(folder: Path, names: Sequence[str]) -> None:
    """Move files and folders into ``folder/.earlier``, which needs no room on the disk.

    Args:
        folder: where they are.
        names: what is moved, as far as it is there. The last to be made is the first of them: it tells what is complete
            from what is not.
    """
    part = folder / _PART
    part.mkdir()
    for name in names:
        if (folder / name).exists():
            (folder / name).replace(part / name)
    part.replace(folder / EARLIER)


def bring_back(folder: Path, names: Sequence[str]) -> None:
    """Undo `put_aside`, wherever a killed process left it; what was begun since goes, unless it is complete and stays.

    Args:
        folder, names: as in `put_aside`.
    """
    waiting, part = folder / EARLIER, folder / _PART
    if waiting.is_dir() and (folder / names[0]).exists():
        shutil.rmtree(waiting)
    elif waiting.is_dir():
        for name in names:
            _remove(folder / name)
        waiting.replace(part)
    if part.is_dir():
        for name in reversed(names):
            if (part / name).exists():
                (part / name).replace(folder / name)
        shutil.rmtree(part)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary folder to write to; when the block ends well it becomes `target`, else it is removed.

    Raises:
        DataError: `target` is there and not an empty folder.
        OSError: naming `target`, when the disk is full or the folder cannot be written to.
    """
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise DataError(f"{target}: is there already; give a new or an empty folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        temporary.replace(target)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) and Path(str(error.filename)).is_relative_to(temporary):
            # The temporary name would tell the user nothing.
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
