"""What is said when a loss or gradient is no number: which images it comes from."""

import math
from dataclasses import replace

import torch
from lightning_fabric import Fabric

from carpus import schedule
from carpus.batches import Share
from carpus.data import Batch
from carpus.errors import DivergedError
from carpus.job import Job
from carpus.predict import network_input


def error(job: Job, launcher: Fabric, step: int, loss: float, norm: float) -> DivergedError:
    """The error of `step`, after every image of its batch was shown to the network by itself.

    Args:
        job: its network as the step found it, in training mode.
        launcher: device and precision; every process looks at the images of all.
        step: counted from 1.
        loss: of the batch.
        norm: of the gradient.
    """
    names = [case.name for case in job.batches.cases_of(step - 1)]
    images = replace(job.batches, share=Share())(step - 1).parts(len(names))
    wrong = [
        name for name, image in zip(names, images, strict=True) if not math.isfinite(_alone(job, launcher, step, image))
    ]
    told = f"step {step}: the loss is {loss:.4g} and the gradient's norm {norm:.4g}"
    if 0 < len(wrong) < len(names):
        return DivergedError(f"{told}; of {len(names)} images it comes from {', '.join(wrong)}, by itself no number")
    reason = "each by itself no number, so the weights rather than an image" if wrong else "each by itself a number"
    return DivergedError(f"{told}, at the images {', '.join(names)}, {reason}; a lower train.learning_rate may help")


@torch.no_grad()
def _alone(job: Job, launcher: Fabric, step: int, image: Batch) -> float:
    """The loss of a batch of one image."""
    # Twice, because BatchNorm makes nothing of a single number; with others it would spread what is wrong with one.
    with launcher.autocast():
        logits, aux = job.network(network_input(image.images.repeat(2, 1, 1, 1), launcher))
    labels, counting = launcher.to_device((image.labels, image.counting))
    shares = job.network.loss_weights(schedule.progress(step - 1, job.settings.train))
    return job.loss.of_outputs([one[:1] for one in (logits, *aux)], labels, shares, **counting).item()
