"""TensorBoard and MLflow, told of the same rows as metrics.csv. Both are optional (`pip install 'carpus[track]'`)."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from carpus import config, run
from carpus.errors import ConfigError, first_line, warn
from carpus.formats import files
from carpus.progress import Step

Tell = Callable[[Step], object]

EXPERIMENT = "carpus"
"""The experiment of MLflow that runs go into."""


@contextmanager
def tracking(settings: config.Config, out: Path, step: int, leads: bool = True) -> Iterator[Tell]:
    """Within the block, a function that tells whoever `settings.track` names of a row.

    A server that fails later on does not end the training: it is no longer told, and a warning says so.

    Args:
        settings: the complete config; MLflow is told all of it.
        out: the run folder.
        step: steps done; what was told of later ones is told once all the same.
        leads: whether this process is the one that tells.

    Raises:
        ConfigError: what is asked for is not installed, or does not answer.
    """
    with ExitStack() as opened:
        told: dict[str, Tell] = {}
        if leads and settings.track.tensorboard:
            told["TensorBoard"] = opened.enter_context(_tensorboard(out, step))
        if leads and settings.track.mlflow:
            told["MLflow"] = opened.enter_context(_mlflow(settings, out))

        def tell(row: Step) -> None:
            for name, one in list(told.items()):
                try:
                    one(row)
                except Exception as error:
                    del told[name]
                    warn(
                        f"{name} is no longer told, from step {row.step} on: {first_line(error)}; {run.METRICS} has all"
                    )

        yield tell


@contextmanager
def _tensorboard(out: Path, step: int) -> Iterator[Tell]:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise ConfigError("track.tensorboard: is not installed; pip install 'carpus[track]'") from error
    # TensorBoard drops what an interrupted process wrote after the step that this one goes on from.
    with SummaryWriter(str(out / run.TENSORBOARD), purge_step=step + 1) as writer:

        def tell(row: Step) -> None:
            for name, value in _values(row).items():
                writer.add_scalar(name, value, row.step)

        yield tell


def mend(settings: config.Config, out: Path, identity: str) -> None:
    """Tell MLflow that a finished run is one, where the process that trained it was killed before it could.

    What goes wrong is a warning: the run is finished all the same.

    Args:
        settings: which MLflow, if any.
        out: the run folder.
        identity: of its manifest.
    """
    if not settings.track.mlflow or not (settings.track.mlflow_uri or _database(out).is_file()):
        return
    try:
        client = _client(settings, out)
        known = client.get_experiment_by_name(EXPERIMENT)
        if known and (unfinished := _unfinished(client, known.experiment_id, _tags(out, identity))):
            client.set_terminated(unfinished[0], "FINISHED")
    except Exception as error:
        warn(f"MLflow was not told that the run is finished: {first_line(error)}")


@contextmanager
def _mlflow(settings: config.Config, out: Path) -> Iterator[Tell]:
    tags = _tags(out, files.sha256(out / run.BEGUN))
    try:
        client = _client(settings, out)
        from mlflow.entities import Metric, Param  # pyright: ignore[reportMissingImports]

        known = client.get_experiment_by_name(EXPERIMENT)
        experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT)
        number, last = _unfinished(client, experiment, tags) or (None, 0)
        if number is None:
            number = client.create_run(experiment, run_name=out.name, tags=tags).info.run_id
            client.log_batch(number, params=[Param(name, str(value)) for name, value in _settings(settings)])
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"track.mlflow_uri: {_uri(settings, out)} does not take a run: {first_line(error)}"
        ) from error

    def tell(row: Step) -> None:
        if row.step > last:  # the others it has from the process that this one goes on from
            now = int(time.time() * 1000)
            client.log_batch(number, [Metric(name, value, now, row.step) for name, value in _values(row).items()])

    status = "FAILED"
    try:
        yield tell
        status = "FINISHED"
    finally:
        try:
            client.set_terminated(number, status)
        except Exception as error:
            warn(f"MLflow was not told that the run is {status.lower()}: {first_line(error)}")


def _client(settings: config.Config, out: Path) -> Any:
    """Raises `ConfigError` where MLflow is not installed."""
    try:
        import mlflow  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError("track.mlflow: is not installed; pip install 'carpus[track]'") from error
    # MLflow's own patience, seven times two minutes, is longer than many trainings.
    for name, value in {"MAX_RETRIES": "2", "TIMEOUT": "20"}.items():
        os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{name}", value)
    return mlflow.MlflowClient(_uri(settings, out))


def _uri(settings: config.Config, out: Path) -> str:
    return settings.track.mlflow_uri or f"sqlite:///{_database(out)}"


def _database(out: Path) -> Path:
    return (out.parent / "mlflow.db").resolve()


def _tags(out: Path, identity: str) -> dict[str, str]:
    return {"carpus.run": str(out.resolve()), "carpus.identity": identity}


def _unfinished(client: Any, experiment: str, tags: Mapping[str, str]) -> tuple[str, int] | None:
    """MLflow's run of an interrupted training in this folder, and the last step it was told of.

    Another training in the same folder is a run of its own, with its own parameters and points.
    """
    identity = f"tags.\"carpus.identity\" = '{tags['carpus.identity']}'"
    alike = client.search_runs([experiment], f"{identity} and attributes.status != 'FINISHED'")
    # The folder's name may hold what a filter does not take.
    numbers = [one.info.run_id for one in alike if one.data.tags.get("carpus.run") == tags["carpus.run"]]
    if not numbers:
        return None
    return numbers[0], max((point.step for point in client.get_metric_history(numbers[0], "loss")), default=0)


def _settings(settings: config.Config) -> Iterator[tuple[str, Any]]:
    """As ``train.steps``, 8, without the settings that stand in no section."""
    for section, content in settings.model_dump(mode="json").items():
        if isinstance(content, dict):
            yield from ((f"{section}.{name}", value) for name, value in content.items())


def _values(row: Step) -> dict[str, float]:
    values = {"loss": row.loss, "learning_rate": row.learning_rate, "images_per_second": row.images_per_second}
    return values if row.val_dice is None else {**values, "val_dice": row.val_dice}
