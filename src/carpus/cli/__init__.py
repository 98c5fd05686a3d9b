"""The command `carpus`: one subcommand a verb. Heavy libraries load inside the commands, so that help is instant."""

import signal
import sys

from carpus.cli.shell import app

# Help lists the commands in this order.
# isort: off
from carpus.cli import training as training
from carpus.cli import prediction as prediction
from carpus.cli import pseudo as pseudo
from carpus.cli import study as study
from carpus.cli import compare as compare
from carpus.cli import datasets as datasets
from carpus.cli import view as view
# isort: on

__all__ = ["app", "main"]


def main() -> None:
    """Entry point of the command."""
    # As Ctrl-C does, so that what is half made is taken away.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    app()
