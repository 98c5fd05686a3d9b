"""Arms are put together from paths: what is one training counts once, and what is no arm is refused with a hint."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from carpus import competition, config, kernels, run, segment
from carpus.cli import app
from carpus.errors import ConfigError, DataError, DataWarning
from carpus.formats import images, submission
from carpus.labels import BONES, LabelMap
from carpus.study import gather, judge, omissions, results
from carpus.study.spec import Pair
from study import planted

Tiny = Callable[..., config.Config]


def carpus(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def a_run(folder: Path, settings: config.Config, *, dice: float = 0.9, patients: Sequence[str] = "abcdef") -> Path:
    """A finished run whose scores differ a little from those of any other folder."""
    draw = np.random.default_rng(list(folder.name.encode()))
    values = dice + 0.01 * draw.standard_normal((len(patients), 29))
    table = planted.table(values, [(f"{name}/1", name) for name in patients], "test", BONES)
    return planted.write_run(folder, {"test": table}, settings=settings)


@pytest.fixture
def arms(tmp_path: Path, tiny: Tiny) -> Path:
    """The runs a0, a1 of one method and b0, b1 of another."""
    for name, loss in (("a", "{bce: 1}"), ("b", "{dice: 1}")):
        for seed in (0, 1):
            a_run(tmp_path / f"{name}{seed}", tiny(f"train.seed={seed}", f"train.loss={loss}"))
    return tmp_path


def a_submission(path: Path, maps: Mapping[str, LabelMap], shift: int = 0) -> Path:
    """A submission of these label maps, moved to the right by some pixels."""
    moved = {name: kernels.encode(np.roll(labels, shift, axis=1), 29) for name, labels in maps.items()}
    submission.write(path, moved.items(), BONES)
    return path


@pytest.fixture(scope="module")
def truth(dataset: Path) -> dict[str, LabelMap]:
    known = submission.read(dataset / "test_labels" / "submission.csv", BONES, (96, 96))
    return {name: kernels.decode(runs, (96, 96)) for name, runs in known.items()}


def test_submissions_are_compared_with_a_truth(trained: Path, dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    segment.segment([run.read(trained)], dataset / "test" / "DCM", path)
    done = carpus("compare", f"mine={path}", f"truth={dataset}/test_labels/submission.csv", "--truth", dataset)
    assert done.exit_code == 0, done.output
    assert "1.0000" in done.output
    assert "cannot tell" in done.output
    arms = gather.of_paths([str(path)], truth=dataset, classes=BONES)
    scored = competition.score(path, dataset)
    assert float(arms["a"].mean(results.TEST)[0]) == pytest.approx(float(scored.mean() or 0))
    with pytest.raises(ConfigError, match="--truth"):
        gather.of_paths([str(path)], classes=BONES)


def test_a_submission_given_twice_is_no_second_seed(dataset: Path, truth: dict[str, LabelMap], tmp_path: Path) -> None:
    first, other = (a_submission(tmp_path / f"{n}.csv", truth, shift=n) for n in (1, 2))
    copy = tmp_path / "copy.csv"
    copy.write_bytes(first.read_bytes().replace(b"\n", b"\r\n"))
    for second in (first, copy):
        with pytest.raises(DataError, match=r"A: .*1\.csv and .*\.csv score the same .* no second seed"):
            gather.of_paths([f"A={first},{second}"], truth=dataset, classes=BONES)
    found = gather.of_paths([f"A={first},{other}"], truth=dataset, classes=BONES)
    assert found["A"].seeds == (0, 1)


def test_a_run_given_twice_is_no_second_seed(arms: Path) -> None:
    shutil.copytree(arms / "a0", arms / "copy")
    for given in ([f"A={arms}/a0,{arms}/copy,{arms}/a1"], [f"{arms}/a0", f"{arms}/a0"]):
        with pytest.raises(DataError, match="are of seed 0 and fold 0; one training given twice is no second seed"):
            gather.of_paths(given, classes=BONES)


def test_runs_and_submissions_are_not_mixed_in_an_arm(
    arms: Path, dataset: Path, truth: dict[str, LabelMap], tmp_path: Path
) -> None:
    path = a_submission(tmp_path / "a.csv", truth)
    with pytest.raises(ConfigError, match="A: holds runs and submissions"):
        gather.of_paths([f"A={arms}/a0,{path}"], truth=dataset, classes=BONES)


def test_images_of_several_sizes_are_scored_each_at_its_own(
    dataset: Path, truth: dict[str, LabelMap], tmp_path: Path
) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "data"))
    narrow = next(iter(truth))
    (image,) = (root / "test" / "DCM").rglob(narrow)
    cv2.imwrite(str(image), images.read(image)[:, :80])
    maps = truth | {narrow: np.ascontiguousarray(truth[narrow][:, :80])}
    path = a_submission(root / "test_labels" / "submission.csv", maps)
    done = carpus(
        "compare", f"same={path}", f"off={a_submission(tmp_path / 'off.csv', maps, shift=2)}", "--truth", root
    )
    assert done.exit_code == 0, done.output
    assert "1.0000" in done.output


def test_the_size_of_a_truth_without_images_is_told(truth: dict[str, LabelMap], tmp_path: Path) -> None:
    path = a_submission(tmp_path / "low.csv", {name: labels[:, :64].copy() for name, labels in truth.items()})
    wanted = ["compare", f"a={path}", f"b={path}", "--truth", path]
    done = carpus(*wanted, "--size", "96x64", "--report", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    assert "1.0000" in done.output
    assert f"--truth {path} --size 96x64" in (tmp_path / "page.html").read_text()
    assert carpus(*wanted, "--size", "1x1").exit_code == 2


def test_paths_that_are_no_arms_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in ("empty", "absent"):
        with pytest.raises(DataError, match=path):
            gather.of_paths([str(tmp_path / path)], classes=BONES)


def test_a_study_is_no_arm_but_its_report_is_named(arms: Path) -> None:
    (arms / "study" / "runs").mkdir(parents=True)
    (arms / "study" / "study.json").write_text(json.dumps({}))
    with pytest.raises(DataError, match=r"is a whole study, which `carpus study report .*study` judges; .*/runs"):
        gather.of_paths([str(arms / "study")], classes=BONES)


def test_a_folder_of_several_methods_is_no_arm_unless_it_is_named_one(arms: Path) -> None:
    with pytest.raises(ConfigError, match=r"which differ in train\.loss\.bce; .*NAME=RUN,RUN"):
        gather.of_paths([str(arms)], classes=BONES)
    for name in ("b0", "b1"):
        shutil.rmtree(arms / name)
    assert gather.of_paths([str(arms)], classes=BONES)[arms.name].seeds == (0, 1)
    (arms / "a1" / "calibration.json").write_text("{}")
    with pytest.raises(ConfigError, match="differ in calibrated"):
        gather.of_paths([str(arms)], classes=BONES)
    assert gather.of_paths([f"all={arms}"], classes=BONES)["all"].seeds == (0, 1)


def test_a_run_without_scores_is_named_and_in_a_folder_left_out(arms: Path) -> None:
    (arms / "a1" / run.SCORES).unlink()
    with pytest.raises(DataError, match=r"a1: has no scores; `carpus evaluate .*a1 --data DATA"):
        gather.of_paths([f"A={arms}/a0,{arms}/a1"], classes=BONES)
    for name in ("b0", "b1"):
        shutil.rmtree(arms / name)
    with pytest.warns(DataWarning, match="a1: has no scores yet and is left out"):
        found = gather.of_paths([str(arms)], classes=BONES)
    assert found[arms.name].seeds == (0,)


def test_a_run_that_is_being_downloaded_is_not_among_those_of_a_folder(arms: Path) -> None:
    for name in ("b0", "b1"):
        (arms / name).rename(arms / f".{name}.k3j2")
    assert gather.of_paths([str(arms)], classes=BONES)[arms.name].seeds == (0, 1)


def test_a_seed_without_all_its_folds_is_left_out_and_named(tiny: Tiny, tmp_path: Path) -> None:
    for arm in "ab":
        for seed, fold in ((0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (3, 0), (3, 2)):
            settings = tiny(f"train.seed={seed}", f"data.fold={fold}", "data.folds=3")
            a_run(tmp_path / arm / f"{seed}{fold}", settings, patients=[f"{fold}{n}" for n in range(3)])
    found = gather.of_paths([f"{arm}={tmp_path / arm}" for arm in "ab"], classes=BONES)
    assert list(found["a"].scores(["test"])) == [0, 2]
    assert len(found["a"].scores(["test"])[0]) == 6
    told = omissions.sentences(judge.judge(found, [Pair("b", "a")]))
    assert [sentence.split(" is left out")[0] for sentence in told] == [
        f"{arm}: seed {seed}" for arm in "ab" for seed in (1, 3)
    ]
    done = carpus("compare", f"a={tmp_path}/a", f"b={tmp_path}/b", "--report", tmp_path / "page.html")
    assert "b: seed 3 is left out" in done.output
    assert "b: seed 3 is left out" in (tmp_path / "page.html").read_text()
