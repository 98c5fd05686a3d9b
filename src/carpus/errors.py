"""What Carpus says when something is wrong: two errors of the user's, three of training's, one warning.

A message names the file and the field first, then what came and what was expected::

    DataError("outputs_json/ID001/a.json: annotations[3].points: needs at least 3 points, has 2")

Anything else that escapes is a fault of Carpus, not of its input.
"""

import warnings


class DataError(ValueError):
    """The input (an image, a label file, a folder, a checkpoint) is not what it should be."""


class BusyError(DataError):
    """Another process is at work on the same folder; it would do later."""


class ConfigError(ValueError):
    """A setting is misspelt, of the wrong type, out of range or contradicts another."""


class DivergedError(ArithmeticError):
    """Training: the loss or its gradient is no longer a number."""


class CapacityError(RuntimeError):
    """The machine has not the memory for what it was asked to do; the message says what would fit."""


class StoppedError(Exception):
    """A training was asked to stop (SIGTERM, Ctrl-C); its state is saved and the same command goes on from there.

    Args:
        message: what was done and what comes next.
        signal: the number of the signal.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class DataWarning(UserWarning):
    """The input is usable, but somebody should look at it. In strict mode it is a `DataError`."""


REFUSALS = (DataError, ConfigError, DataWarning)
"""What says that the input is at fault, a warning in strict mode included; anything else is Carpus's own fault."""


def first_line(error: BaseException) -> str:
    """What an error of a library says, without the account that many append; its type if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def warn(message: str) -> None:
    """Warn about usable but doubtful input; `message` names the file and the field first.

    Strict mode is the standard ``warnings.simplefilter("error", DataWarning)``; the command line
    turns the exception into the same one-line error as a `DataError`.
    """
    warnings.warn(message, DataWarning, stacklevel=3)
