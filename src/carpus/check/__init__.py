"""What is wrong with a data set: files, labels against the anatomy, labels against their image, leaks.

Every image is decoded and every annotation drawn once (`case`). What a case alone shows is judged against the measured
anatomy (see `pose`). What the data set itself shows as usual counts where enough cases show it (`dataset`): the
side of the thumb from 10 images on, how well labels lie on the bones from 5 cases, and the data set's own centre and
spread of places, sizes and shapes from 20.
"""

from collections.abc import Callable
from pathlib import Path

from carpus.check import dataset, folder
from carpus.check.case import Seen, examine
from carpus.check.finding import SEVERITIES, Finding, render, to_json
from carpus.errors import DataError
from carpus.labels import BONES, Classes

__all__ = ["Finding", "check", "render", "to_json"]


def check(
    root: Path | str, *, classes: Classes = BONES, progress: Callable[[int, int], object] | None = None
) -> list[Finding]:
    """Find what is wrong with a data folder in the competition's layout.

    Args:
        root: the folder that holds train/ and test/.
        classes: the class list of the annotations; classes that are bones of the hand, by name, are checked against
            its anatomy.
        progress: called with (cases done, cases in all).

    Returns:
        the findings, errors first, then by case. A class that is missing from a labelled image is one of them.

    Raises:
        DataError: the folder is missing or has no images; everything else is a finding.
    """
    if not Path(root).is_dir():
        raise DataError(f"{root}: no such folder; expected a data set with train/DCM and train/outputs_json")
    listed, findings = folder.read(Path(root))
    if not listed:
        raise DataError(f"{root}: no images below train/DCM or test/DCM; is this the folder that holds train/?")
    seen: list[Seen] = []
    for done, (split, case) in enumerate(listed, start=1):
        one, found = examine(case, split, classes)
        seen.append(one)
        findings += found
        if progress:
            progress(done, len(listed))
    findings += dataset.compare(seen, findings)
    return sorted(findings, key=lambda finding: (SEVERITIES.index(finding.severity), finding.case))
