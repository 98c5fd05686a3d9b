"""TensorBoard and MLflow, told of the same rows as metrics.csv. Both are optional (`pip install 'carpus[track]'`)."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from carpus import config, run
from carpus.errors import ConfigError, warn
from carpus.formats import files
from carpus.progress import Step

Tell = Callable[[Step], object]


@contextmanager
def tracking(settings: config.Config, out: Path, step: int, leads: bool = True) -> Iterator[Tell]:
    """Within the block, a function that tells whoever `settings.track` names of a row.

    A server that fails later on does not end the training: it is no longer told, and a warning says so.

    Args:
        settings: the complete config; MLflow is told all of it.
        out: the run folder.
        step: steps done; a resumed run overwrites what was told of later ones.
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
                    warn(f"{name} is no longer told, from step {row.step} on: {_line(error)}; {run.METRICS} has all")

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


@contextmanager
def _mlflow(settings: config.Config, out: Path) -> Iterator[Tell]:
    try:
        import mlflow  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError("track.mlflow: is not installed; pip install 'carpus[track]'") from error
    uri = settings.track.mlflow_uri or f"sqlite:///{(out.parent / 'mlflow.db').resolve()}"
    # MLflow's own patience, seven times two minutes, is longer than many trainings.
    for name, value in {"MAX_RETRIES": "2", "TIMEOUT": "20"}.items():
        os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{name}", value)
    tags = {"carpus.run": str(out.resolve()), "carpus.identity": files.sha256(out / run.BEGUN)}
    # A resumed run goes on as the same run of MLflow; another run in its folder has parameters and points of its own.
    same = " and ".join(f"tags.\"{name}\" = '{value}'" for name, value in tags.items())
    try:
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("carpus")
        before: Any = mlflow.search_runs(
            filter_string=f"{same} and attributes.status != 'FINISHED'", output_format="list", max_results=1
        )
        known = before[0].info.run_id if before else None
        mlflow.start_run(run_id=known, run_name=out.name, tags=tags)
        if not known:
            content = settings.model_dump(mode="json")
            mlflow.log_params({f"{part}.{name}": value for part in content if isinstance(content[part], dict)
                               for name, value in content[part].items()})  # fmt: skip
    except Exception as error:
        raise ConfigError(f"track.mlflow_uri: {uri} does not take a run: {_line(error)}") from error
    status = "FAILED"
    try:
        yield lambda row: mlflow.log_metrics(_values(row), step=row.step)
        status = "FINISHED"
    finally:
        try:
            mlflow.end_run(status)
        except Exception as error:
            warn(f"MLflow was not told that the run is {status.lower()}: {_line(error)}")


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _values(row: Step) -> dict[str, float]:
    values = {"loss": row.loss, "learning_rate": row.learning_rate, "images_per_second": row.images_per_second}
    return values if row.val_dice is None else {**values, "val_dice": row.val_dice}
