"""A recipe and a data set to a run folder, on one device or many, stopped and resumed at will. The loop is `loop`."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from carpus import capacity, config, devices, gates, outcome, run, schedule, track
from carpus.errors import DataError
from carpus.job import Job, prepare
from carpus.loop import Watch, fit
from carpus.phases import Phases
from carpus.pseudo import decisions
from carpus.stop import listening


def train(
    settings: config.Config,
    root: Path,
    out: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    longer_than: run.Run | None = None,
    watch: Watch | None = None,
    tell: Callable[[str], object] | None = None,
) -> float:
    """Train one network and leave a run folder; go on where an interrupted training of the same stopped.

    Where the same has finished, nothing is trained.

    Args:
        settings: the complete config.
        root: a data folder in the competition's layout.
        out: the run folder; new, or empty, or of the same run unfinished, or given up with `overwrite`.
        overwrite: replace a run that is there, once the new one is finished; see `run.claim`.
        resume: there must be something to go on with.
        longer_than: a finished run whose last state is the first of this one, see `lengthen`.
        watch: called after every step, in the first process.
        tell: called with a line for every gate that the network has passed, see `gates`, or where the same run has
            finished; in the first process.

    Returns:
        Mean Dice of the validation patients at the labels' own resolution, with the weights that were kept.

    Raises:
        DataError: the data set cannot be read, leaks, or leaves a side of the split empty; or see `run.claim`.
        ConfigError: settings that contradict each other.
        DivergedError: a loss or gradient that is not a number; names step and images, and leaves the weights of the
            last validation, if there was one and no earlier run to come back.
        CapacityError: not enough memory; says what takes less.
        StoppedError: SIGTERM or Ctrl-C; the state is saved.
        ConnectionError: another process of the same training is gone.
    """
    if resume:  # before the minutes that a data set can take
        run.require_unfinished(out, continued=longer_than is not None)
    launcher = devices.training(settings.train)
    leads = launcher.is_global_zero  # the one process that writes
    phases = Phases()
    with capacity.explained(settings), phases("prepare"), devices.together(launcher):
        job = prepare(settings, root, launcher)
        if longer_than:
            _require_same_data(job, root, longer_than)
            _require_same_start(job, longer_than)
        identity = job.identity() | {"processes": launcher.world_size}
        identity |= {"continued": _origin(longer_than)} if longer_than else {}
        anew = overwrite or resume
        done = devices.by_first(launcher, lambda: None if anew else run.finished(out, identity))
        if done:
            if leads:
                track.mend(settings, out, done.manifest["identity"])
            if leads and tell:
                tell(f"{out}: is finished, and is what this command asks for; nothing was trained")
            return done.manifest["val_dice"]
        if job.pseudo and leads and tell:
            tell(job.pseudo.advice(selection=settings.data.pseudo.selection))
        passed = _gates(job, launcher, tell if leads else None)
    with (
        ExitStack() as claimed,
        ExitStack() as tracked,
        listening() as stop,
        capacity.explained(settings),
        devices.together(launcher),
    ):
        claim = run.claim(out, identity, overwrite=overwrite, resume=resume)
        devices.by_first(launcher, lambda: claimed.enter_context(claim))
        state = fit(job, launcher, out, phases, stop, tracked, longer_than, watch if leads else None)
        if leads:
            continued = {**_origin(longer_than), **_how(longer_than, settings)} if longer_than else None
            about = {
                "identity": run.digest(identity),
                "gates": passed,
                "processes": launcher.world_size,
                "continued": continued,
            }
            outcome.finish(out, job, state, root=root, about=about)
    return outcome.val_dice(state, settings.train)


def lengthen(
    run_path: Path, steps: int, root: Path | None = None, out: Path | None = None, **options: Any
) -> tuple[Path, float]:
    """Train a finished run for longer, into a folder of its own.

    Where its schedule is a function of the step alone (see `schedule.lengthened`), the result is that of one run of so
    many steps, bit for bit; elsewhere the schedule starts anew, and the manifest says so.

    Args:
        run_path: a finished run.
        steps: in all, those of the finished run included.
        root: the data folder; None for where it was.
        out: the new run folder; None for the old one's name and the steps.
        options: as in `train`.

    Returns:
        The new run folder, and the Dice as `train` gives it.

    Raises:
        DataError: no such run, no state left in it, or other data.
        ConfigError: not more steps than it has, or a horizon before them.
    """
    earlier = run.read(run_path)
    fading = any(aux.final_weight is not None for aux in earlier.settings.model.aux)
    pseudo = earlier.settings.data.pseudo
    fading |= pseudo.root is not None and pseudo.until < 1
    longer, _ = schedule.lengthened(earlier.settings.train, earlier.manifest["steps"], steps, fading=fading)
    out = out or run_path.with_name(f"{run_path.name}-{steps}")
    root = root or Path(earlier.manifest["data"]["path"])
    settings = earlier.settings.model_copy(update={"train": longer})
    return out, train(settings, root, out, longer_than=earlier, **options)


def _require_same_data(job: Job, root: Path, earlier: run.Run) -> None:
    there, then = job.fingerprints, {name: of for name, of in earlier.manifest["data"].items() if name != "path"}
    # What only one of them has differs, too: decisions made since, or taken back.
    differing = [name for name in (*there, *then) if there.get(name) != then.get(name)]
    if differing:
        of = f"data.{differing[0]} in its {run.MANIFEST}{f', by {decisions.FILE}' if differing[0] == 'trust' else ''}"
        raise DataError(
            f"{root}: is other data than {earlier.path} was trained on ({of}); "
            "a longer run learns from the same, and other data ask for a run of its own"
        )


def _require_same_start(job: Job, earlier: run.Run) -> None:
    then = earlier.manifest.get("start_sha256")  # None: from random weights, or made before folders were recorded
    if then and job.start_sha256 != then:
        raise DataError(
            f"{job.settings.model.weights}: is not what {earlier.path} began from (start_sha256 in {run.MANIFEST}): "
            "a longer run has the same first weights, and others ask for a run of its own"
        )


def _origin(earlier: run.Run) -> dict[str, Any]:
    return {"steps": earlier.manifest["steps"], "weights": earlier.manifest["files"][run.WEIGHTS]}


def _how(earlier: run.Run, settings: config.Config) -> dict[str, Any]:
    options = settings.train
    restarted = options.schedule_start == earlier.manifest["steps"]
    schedule_is = "restarted" if restarted else "of one run"
    if earlier.manifest["stopped_early"]:
        schedule_is += ", past its early stop"
    kept = earlier.manifest["weights"]["step"]
    if options.keep == "best" and kept % options.validate_every:
        schedule_is += f", and one validation more: after step {kept}, the best so far"
    return {
        "run": str(earlier.path.resolve()),
        "identity": earlier.manifest["identity"],
        "schedule": schedule_is,
    }


def overfit(settings: config.Config, root: Path, *, tell: Callable[[str], object] | None = None) -> gates.Overfitting:
    """Try to learn the first batch by heart, after the gates that come before every training; nothing is written.

    Args:
        settings: the complete config.
        root: a data folder in the competition's layout.
        tell: called with a line for every gate passed.

    Raises:
        DataError, ConfigError, DivergedError, CapacityError: as `train`.
    """
    options = settings.train
    launcher = devices.fabric(options.device, options.precision)
    with capacity.explained(settings):
        job = prepare(settings, root, launcher)
        _gates(job, launcher, tell)
        return gates.overfit(job.network, job.batches(0), job.loss, launcher, options)


def _gates(job: Job, launcher: Fabric, tell: Callable[[str], object] | None) -> list[str]:
    part = next(iter(job.batches(0).parts(job.settings.train.accumulate)))
    return gates.check(job.network, job.settings, len(job.classes), part, job.loss, launcher, tell=tell)
