"""A study as a page, and its tables and figures as files.

::

    OUT/report.html          the page: verdicts, figures, tables, worst cases, how to repeat it
    OUT/tables/NAME.csv      every table; tables.md and tables.tex hold all of them
    OUT/figures/NAME.svg     every figure, in light colours

Beside a page of another name, x.html, they are in x_tables/ and x_figures/.
"""

from carpus.study.report.page import write

__all__ = ["write"]
