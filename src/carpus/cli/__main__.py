"""`python -m carpus.cli`, for launchers that want a module."""

from carpus.cli import main

main()
