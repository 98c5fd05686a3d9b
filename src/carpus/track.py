"""TensorBoard and MLflow, told of the same rows as metrics.csv. Both are optional (`pip install 'carpus[track]'`)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from carpus import config, run
from carpus.errors import ConfigError
from carpus.formats import files
from carpus.progress import Step

Tell = Callable[[Step], object]


@contextmanager
def tracking(settings: config.Config, out: Path, step: int, leads: bool = True) -> Iterator[Tell]:
    """Within the block, a function that tells whoever `settings.track` names of a row.

    Args:
        settings: the complete config; MLflow is told all of it.
        out: the run folder.
        step: steps done; a resumed run overwrites what was told of later ones.
        leads: whether this process is the one that tells.

    Raises:
        ConfigError: what is asked for is not installed.
    """
    with ExitStack() as opened:
        told: list[Tell] = []
        if leads and settings.track.tensorboard:
            told.append(opened.enter_context(_tensorboard(out, step)))
        if leads and settings.track.mlflow:
            told.append(opened.enter_context(_mlflow(settings, out)))

        def tell(row: Step) -> None:
            for one in told:
                one(row)

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
    mlflow.set_tracking_uri(settings.track.mlflow_uri or f"sqlite:///{(out.parent / 'mlflow.db').resolve()}")
    mlflow.set_experiment("carpus")
    tags = {"carpus.run": str(out.resolve()), "carpus.identity": files.sha256(out / run.BEGUN)}
    # A resumed run goes on as the same run of MLflow; another run in its folder has parameters and points of its own.
    same = " and ".join(f"tags.\"{name}\" = '{value}'" for name, value in tags.items())
    before: Any = mlflow.search_runs(
        filter_string=f"{same} and attributes.status != 'FINISHED'", output_format="list", max_results=1
    )
    known = before[0].info.run_id if before else None
    with mlflow.start_run(run_id=known, run_name=out.name, tags=tags):
        if not known:
            content = settings.model_dump(mode="json")
            mlflow.log_params({f"{part}.{name}": value for part in content if isinstance(content[part], dict)
                               for name, value in content[part].items()})  # fmt: skip
        yield lambda row: mlflow.log_metrics(_values(row), step=row.step)


def _values(row: Step) -> dict[str, float]:
    values = {"loss": row.loss, "learning_rate": row.learning_rate, "images_per_second": row.images_per_second}
    return values if row.val_dice is None else {**values, "val_dice": row.val_dice}
