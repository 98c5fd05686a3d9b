"""Studies: arms x seeds x folds to runs, runs to statistics, statistics to a report.

::

    OUT/study.yaml    the study file, as it was run
    OUT/study.json    scale, data, where the study file was, and every run: arm, seed, fold, folder
    OUT/runs/KEY/     run folders; KEY is the hash of the settings, so arms with the same settings share them.
                      scores.csv has the splits val, public and private
    OUT/failed/       KEY.txt: why a task failed, with the trace
    OUT/logs/         KEY.txt: what a task printed
    OUT/data/         made-up data, where none was given

From runs to a report: `results` reads runs, each with the `lineage` of its weights, and `gather` makes arms of them;
`pairing` puts two arms side by side, `stats` compares them, `flags` names what else there is to say of the difference,
and `judge` makes a `judgement` of all contrasts. `omissions` tells what no verdict is about, `report` shows the rest.
"""
