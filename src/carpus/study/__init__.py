"""Studies: arms x seeds x folds to runs, runs to statistics, statistics to a report.

::

    OUT/study.yaml    the study file, as it was run
    OUT/study.json    scale, data, where the study file was, and every run: arm, seed, fold, folder
    OUT/runs/KEY/     run folders; KEY is the hash of the settings, so arms with the same settings share them.
                      scores.csv has the splits val, public and private
    OUT/failed/       KEY.txt: why a task failed, with the trace
    OUT/logs/         KEY.txt: what a task printed
    OUT/data/         made-up data, where none was given
"""
