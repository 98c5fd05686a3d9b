"""TensorBoard and MLflow are told what metrics.csv is told, also across an interruption."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas
import pytest

from carpus import config, run, train
from carpus.errors import ConfigError, DataWarning
from carpus.progress import Step

Tiny = Callable[..., config.Config]
EVERY = ("train.steps=4", "train.validate_every=1", "train.save_every=1")

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that are not ours


def interrupt(settings: config.Config, dataset: Path, out: Path) -> None:
    def watch(now: Step) -> None:
        if now.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.train(settings, dataset, out, watch=watch)


def interrupted_once(settings: config.Config, dataset: Path, out: Path) -> pandas.DataFrame:
    interrupt(settings, dataset, out)
    train.train(settings, dataset, out)
    return pandas.read_csv(out / run.METRICS)


def runs(client: Any) -> list[Any]:
    return list(client.search_runs([client.get_experiment_by_name("carpus").experiment_id]))


def test_tensorboard_has_the_rows_once(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = interrupted_once(tiny("track.tensorboard=true", *EVERY), dataset, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (step, pytest.approx(loss, rel=1e-6)) for step, loss in zip(rows["step"], rows["loss"], strict=True)
    ]


def test_mlflow_has_one_run_with_settings_and_rows(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    folder = tmp_path / "it's here"
    rows = interrupted_once(tiny("track.mlflow=true", *EVERY), dataset, folder / "run")
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (told,) = runs(client)
    assert told.data.params["train.steps"] == "4"
    assert told.info.status == "FINISHED"
    history = client.get_metric_history(told.info.run_id, "val_dice")
    assert [(event.step, event.value) for event in history] == list(zip(rows["step"], rows["val_dice"], strict=True))


def test_a_run_stopped_before_its_manifest_is_the_same_run_when_it_goes_on(
    dataset: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("carpus.outcome.write_report", stop)
        with pytest.raises(KeyboardInterrupt):
            train.train(tiny("track.mlflow=true", *EVERY), dataset, tmp_path / "run")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (stopped,) = runs(client)
    assert stopped.info.status == "FAILED"
    train.train(tiny("track.mlflow=true", *EVERY), dataset, tmp_path / "run")
    (told,) = runs(client)
    assert (told.info.run_id, told.info.status) == (stopped.info.run_id, "FINISHED")


def test_mlflow_hears_of_the_end_of_a_run_that_was_killed_before_it_could_tell(
    dataset: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    settings, out = tiny("track.mlflow=true", *EVERY), tmp_path / "run"
    interrupt(tiny("track.mlflow=true", *EVERY), dataset, tmp_path / "other")
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_terminated", lambda *_: None)
        train.train(settings, dataset, out)

    def status() -> dict[str, str]:
        return {one.info.run_name: one.info.status for one in runs(client)}

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert status() == {"run": "RUNNING", "other": "FAILED"}
    with monkeypatch.context() as patch:  # a server that is away is no reason to fail
        patch.setattr(mlflow.MlflowClient, "search_runs", lambda *_: 1 / 0)
        with pytest.warns(DataWarning, match="MLflow was not told that the run is finished: division by zero"):
            train.train(settings, dataset, out)
    train.train(settings, dataset, out, watch=lambda _: pytest.fail("trained again"))
    assert status() == {"run": "FINISHED", "other": "FAILED"}
    (tmp_path / "mlflow.db").unlink()
    train.train(settings, dataset, out)
    assert not (tmp_path / "mlflow.db").exists()


def test_mlflow_tells_another_run_in_the_same_folder_apart(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    interrupt(tiny("track.mlflow=true", *EVERY), dataset, tmp_path / "run")
    another = tiny("track.mlflow=true", *EVERY, "train.steps=2", "train.learning_rate=0.5")
    train.train(another, dataset, tmp_path / "run", overwrite=True)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    told = runs(client)  # the latest first
    assert [one.data.params["train.steps"] for one in told] == ["2", "4"]
    assert [one.data.params["train.learning_rate"] for one in told] == ["0.5", str(tiny().train.learning_rate)]
    assert [one.info.status for one in told] == ["FINISHED", "FAILED"]
    points = client.get_metric_history(told[0].info.run_id, "val_dice")
    assert [point.step for point in points] == [1, 2]
    assert told[0].data.tags["carpus.identity"] == run.read(tmp_path / "run").manifest["identity"]


def test_a_server_that_fails_does_not_end_the_training(
    dataset: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    told = list[int]()

    def broken(_client: object, _number: str, metrics: Sequence[Any] = (), **_: object) -> None:
        if metrics:
            told.append(metrics[0].step)
            raise OSError("connection lost\nlong account")

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", broken)
    settings = tiny("track.mlflow=true", "track.tensorboard=true", *EVERY)
    with pytest.warns(DataWarning, match="MLflow is no longer told, from step 1 on: connection lost; metrics.csv has"):
        train.train(settings, dataset, tmp_path / "run")
    assert told == [1]
    assert len(pandas.read_csv(tmp_path / "run" / run.METRICS)) == 4


def test_a_server_that_does_not_answer_is_named_before_the_first_step(
    dataset: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = "http://127.0.0.1:9"
    with pytest.raises(ConfigError, match=f"track.mlflow_uri: {address} does not take a run"):
        train.train(tiny("track.mlflow=true", f"track.mlflow_uri={address}"), dataset, tmp_path / "run")


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_what_is_not_installed_is_named_before_the_first_step(
    dataset: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(
        __import__("sys").modules, {"tensorboard": "torch.utils.tensorboard.writer"}.get(name, name), None
    )
    with pytest.raises(ConfigError, match=rf"track\.{name}: is not installed; pip install 'carpus\[track\]'"):
        train.train(tiny(f"track.{name}=true"), dataset, tmp_path / "run", watch=lambda now: pytest.fail("a step"))
