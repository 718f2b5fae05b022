"""Training, testing and distilling the networks that are fused."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .._core.errors import UsageError
from .._core.progress import Progress, Tick, silent
from .images import Images

#: Images that are run at a time when a network is tested.
_BATCH = 1000


def predict(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return a network's scores, (n, classes), without gradients and in evaluation mode."""
    training = network.training
    network.eval()
    with torch.no_grad():
        scores = torch.cat([network(part) for part in inputs.split(_BATCH)])
    network.train(training)
    return scores


def accuracy(network: nn.Module, images: Images) -> float:
    """Return the percentage of images whose best score is that of their label."""
    return 100 * float((predict(network, images.inputs).argmax(1) == images.labels).double().mean())


def class_accuracies(scores: Tensor, labels: Tensor) -> list[float]:
    """Return, class by class, the percentage of right answers."""
    right = (scores.argmax(1) == labels).double()
    return [100 * float(right[labels == label].mean()) for label in range(scores.shape[1])]


def renorm(network: nn.Module, inputs: Tensor) -> nn.Module:
    """Return a copy whose batch norms know the statistics of its own activations.

    The activations of an average vary less than the average of the networks' variances says, so an average of networks
    with batch norm needs this, by whichever way it was made.

    Parameters
    ----------
    network
        Not changed.
    inputs
        Images to measure on; no labels are needed.
    """
    fresh = copy.deepcopy(network)
    for module in fresh.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            # None stands for the plain mean over all batches.
            module.momentum = None
            module.train()
        else:
            module.training = False
    with torch.no_grad():
        for part in inputs.split(_BATCH):
            fresh(part)
    for mine, its in zip(fresh.modules(), network.modules(), strict=True):
        if isinstance(mine, nn.BatchNorm1d | nn.BatchNorm2d) and isinstance(its, nn.BatchNorm1d | nn.BatchNorm2d):
            mine.momentum = its.momentum
    return fresh.train(network.training)


@dataclass(frozen=True)
class Teacher:
    """A network that another learns from.

    Attributes
    ----------
    network
        Its scores are softened and imitated.
    temperature
        What both networks' scores are divided by.
    weight
        Of the imitation; the labels have the rest.

    References
    ----------
    Model Fusion via Optimal Transport, supplement S12; Hinton et al., arXiv 1503.02531: the imitation is multiplied by
    the squared temperature, so that its gradients keep their size.
    """

    network: nn.Module
    temperature: float = 4.0
    weight: float = 0.05

    def __post_init__(self) -> None:
        if not self.temperature > 0 or not 0 <= self.weight <= 1:
            raise UsageError(
                f"temperature {self.temperature:g} and weight {self.weight:g}, expected one above 0 and one in [0, 1]"
            )


def train(
    network: nn.Module,
    images: Images,
    *,
    epochs: int = 10,
    rate: float = 0.01,
    momentum: float = 0.5,
    batch: int = 64,
    teacher: Teacher | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> nn.Module:
    """Train a copy of a network by stochastic gradient descent at a constant rate; also finetunes and distils.

    Parameters
    ----------
    network
        What training starts from; it is not changed.
    images
        What is learnt.
    epochs, rate, momentum, batch
        The defaults are the paper's for MLPNet.
    teacher
        A network to imitate beside the labels.
    seed
        Draws the order of the images.
    progress
        Told after every epoch; raising from it cancels.

    Returns
    -------
    nn.Module
        In evaluation mode.
    """
    student = copy.deepcopy(network).train()
    wishes = None if teacher is None else predict(teacher.network, images.inputs)
    optimizer = torch.optim.SGD(student.parameters(), lr=rate, momentum=momentum)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        progress(Tick("training", epoch, epochs))
        for rows in torch.randperm(len(images), generator=generator).split(batch):
            scores = student(images.inputs[rows])
            loss = functional.cross_entropy(scores, images.labels[rows])
            if teacher is not None and wishes is not None:
                imitation = _imitation(scores, wishes[rows], teacher.temperature)
                loss = (1 - teacher.weight) * loss + teacher.weight * imitation
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    progress(Tick("training", epochs, epochs))
    return student.eval()


def _imitation(scores: Tensor, wishes: Tensor, temperature: float) -> Tensor:
    soft, wished = (scores / temperature).log_softmax(1), (wishes / temperature).log_softmax(1)
    return temperature**2 * functional.kl_div(soft, wished, log_target=True, reduction="batchmean")
