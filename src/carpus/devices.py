"""Where and in which arithmetic to compute: one device, several of a machine, or several machines."""

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.modules.batchnorm import _BatchNorm

from carpus import config
from carpus.errors import ConfigError, first_line, warn
from carpus.precision import Precision

Result = TypeVar("Result")

# Fabric announces its precision at every start; here it is a setting that the user has seen.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


def fabric(device: str = "auto", precision: Precision = "auto", *, devices: int = 1, nodes: int = 1) -> Fabric:
    """The launcher for `train.device` and `train.precision` of a config.

    Args:
        device: auto, cpu or cuda.
        precision: see `precision.Precision`.
        devices: GPUs, or processes on the CPU, of one machine; each has a whole copy of the network (DDP).
        nodes: machines.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device: expected auto, cpu or cuda, got {device}")
    accelerator = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if device == "cuda" and accelerator == "cpu":
        raise ConfigError("device: cuda is asked for, but torch sees no CUDA device")
    if precision == "auto":
        # Without these instructions a processor emulates bfloat16, slower than float32.
        fast = accelerator == "cuda" or torch.cpu.get_capabilities().get("avx512_bf16", False)
        precision = "bf16" if fast else "32"
    # As a plugin, because by name Fabric refuses fp16 on the CPU, where it is slow but right.
    mixed = [MixedPrecision("16-mixed" if precision == "fp16" else "bf16-mixed", device=accelerator)]
    return Fabric(
        accelerator=accelerator,
        strategy="ddp" if devices * nodes > 1 else "auto",
        devices=devices,
        num_nodes=nodes,
        plugins=None if precision == "32" else mixed,  # pyright: ignore[reportArgumentType]
    )


def launched(devices: int, nodes: int) -> tuple[int, int]:
    """Devices a machine and machines: what torchrun or SLURM started if one of them did, else what is asked for."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    if SLURMEnvironment.detect():
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return int(os.environ["SLURM_NTASKS"]) // nodes, nodes
    return devices, nodes


def training(options: config.Train) -> Fabric:
    """The launcher of a training, its processes started and joined."""
    local, nodes = launched(options.devices, options.nodes)
    launcher = fabric(options.device, options.precision, devices=local, nodes=nodes)
    launcher.launch()
    return launcher


def scaler(launcher: Fabric) -> GradScaler | None:
    """What scales the loss in fp16, so that small gradients do not vanish; None in any other precision."""
    return cast(GradScaler | None, getattr(launcher.strategy.precision, "scaler", None))


def overflowed(scaler: GradScaler | None, loss: float, norm: float) -> bool:
    """Whether the scale of the loss was too large for fp16: the scaler then leaves the weights alone and halves it.

    Args:
        scaler: of `scaler`.
        loss: a number, or it is no matter of scale.
        norm: of the gradient, no number where it overflowed.
    """
    return scaler is not None and math.isfinite(loss) and not math.isfinite(norm) and scaler.get_scale() >= 1


def normalised_together(network: nn.Module, launcher: Fabric) -> nn.Module:
    """`network`, where several GPUs share a batch with every BatchNorm over all of it; weights and names stay.

    On processors torch has no such norm: a warning says that every process normalises by its own images.

    Raises:
        ConfigError: on processors, a network that was built with such norms.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if launcher.world_size == 1 or not norms:
        return network
    if launcher.device.type == "cuda":
        from timm.layers.norm_act import convert_sync_batchnorm

        return convert_sync_batchnorm(network)
    if any(isinstance(norm, nn.SyncBatchNorm) for norm in norms):
        raise ConfigError("model.norm: sync is for GPUs; processes on processors come to one result with group")
    if launcher.is_global_zero:
        warn(
            f"model.norm: on processors BatchNorm normalises by the images of one process, so that "
            f"{launcher.world_size} of them come to another result than one; group has no such trouble"
        )
    return network


def sync(launcher: Fabric, model: nn.Module, *, at_last: bool) -> AbstractContextManager[Any]:
    """Processes average their gradients in the last part of a step only."""
    alone = launcher.world_size == 1
    return nullcontext() if alone else launcher.no_backward_sync(cast(Any, model), enabled=not at_last)


@contextmanager
def together(launcher: Fabric) -> Iterator[None]:
    """Turn what the exchange with a process that is gone fails with into a `ConnectionError` that says so.

    It is an interruption like a full disk: the states that are saved are good.
    """
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, torch.distributed.DistError) or "gloo" in str(error).lower()
        if launcher.world_size == 1 or not lost:
            raise
        raise ConnectionError(
            f"lost another of the {launcher.world_size} processes of this training; the same command goes on from the "
            f"last state that was saved ({first_line(error)})"
        ) from error


def by_first(launcher: Fabric, work: Callable[[], Result]) -> Result:
    """What `work` of the first process comes to, in every process; an error of it is raised in all.

    Else the others would wait for a process that has given up, and say that it was lost.
    """
    found, failed = None, None
    if launcher.is_global_zero:
        try:
            found = work()
        except Exception as error:
            failed = error
    found, failed = launcher.broadcast((found, failed))
    if failed:
        raise failed
    return cast(Result, found)


def agree(launcher: Fabric, loss: Tensor, norm: Tensor | None, signal: int) -> tuple[float, float, int]:
    """The loss over all processes, the gradient's norm, and the signal that any was sent; one wait for the device.

    The mean of equal shares is the mean of the whole batch. A loss that is no number in one process is none in all.
    """
    assert norm is not None
    shared = torch.stack([loss.double(), norm.to(loss).double(), torch.tensor(float(signal)).to(loss).double()])
    if launcher.world_size > 1:
        means = cast(Tensor, launcher.all_reduce(shared[:2], reduce_op="mean"))
        most = cast(Tensor, launcher.all_reduce(shared[2:], reduce_op="max"))
        shared = torch.cat([means[:2], most])
    value, steepness, signalled = shared.tolist()
    return value, steepness, int(signalled)


def compiled(network: nn.Module) -> nn.Module:
    """The network through torch.compile; its weights stay those of `network`."""
    return cast(nn.Module, torch.compile(network))
