"""A run as one self-contained HTML page: headline numbers, cases, figures, the classes, how to repeat it.

The page asks for nothing outside itself (its content security policy forbids it), needs no script, follows the
reader's light or dark setting, and prints. `write` makes it; `choose` says which cases it wants pictures of.
"""

from carpus.report.cases import Pictured, choose
from carpus.report.document import Listing, require_place
from carpus.report.page import write

__all__ = ["Listing", "Pictured", "choose", "require_place", "write"]
