"""What the report claimed and what it regretted, answered by the contrasts of a study."""

import numpy as np

from carpus.report import Listing
from carpus.study.judgement import Judgement
from carpus.study.report.cells import signed
from carpus.study.report.words import told_on_val, verdict
from carpus.study.spec import Pair, Published, Study


def claims(judgement: Judgement, study: Study) -> Listing:
    """What the report concluded, and what the runs of this study say about it."""
    known = {each.pair: each for each in judgement.judged}
    rows = []
    for claim in study.claims:
        for pair in claim.contrasts:
            each = known.get(pair)
            rows.append(
                [
                    claim.text,
                    str(pair),
                    _reported(study, pair),
                    signed(each.difference) if each else "–",
                    "; ".join(filter(None, (verdict(each), told_on_val(judgement, pair)))) if each else "no runs",
                ]
            )
    about = "The report's difference is the mean of Public and Private, of one run each."
    return Listing("The report's claims", about, ["Claim", "Contrast", "Report", "Here", "Verdict here"], rows)


def regrets(judgement: Judgement, study: Study) -> Listing:
    """What the report wishes it had tried, and what came of it."""
    rows = []
    for regret in study.regrets:
        for name in regret.arms:
            told = [
                f"{verdict(each)} ({signed(each.difference)} to {each.pair.against}{where})"
                if each.pair.arm == name
                else f"{each.pair.arm} against it: {verdict(each)} ({signed(each.difference)}{where})"
                for where, of in (("", judgement.judged), (", on Val", judgement.on_val))
                for each in of
                if name in each.pair
            ]
            waiting = name not in judgement.arms or any(name in pair for pair in judgement.absent)
            rows.append([regret.text, name, "; ".join(told) or ("no runs" if waiting else "no contrast")])
    return Listing("What the report regretted", "", ["Regret", "Arm", "Found"], rows)


def _reported(study: Study, pair: Pair) -> str:
    a, b = (study.arms[name].published or Published() for name in pair)
    values = [x - y for x, y in ((a.public, b.public), (a.private, b.private)) if x is not None and y is not None]
    return signed(float(np.mean(values))) if values else "–"
