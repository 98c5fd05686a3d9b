"""Carpus: the 29 overlapping bones of the hand in radiographs.

``carpus.load(run)(image)``, ``carpus.read(path)`` and ``carpus.score(a, b)`` are the Python side of the command;
docs/guide.md shows them at work. They are imported when they are first used, so that `import carpus` costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carpus.api import Labels, Model, load, read, score

__all__ = ["Labels", "Model", "load", "read", "score"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from carpus import api

        return getattr(api, name)
    raise AttributeError(f"module 'carpus' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
