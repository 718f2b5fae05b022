"""Training, evaluation and distillation of networks."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .._core.deprecation import renamed_arguments
from .._core.errors import UsageError
from .._core.progress import Progress, Tick, silent
from .images import Images

#: Batch size for evaluation.
_BATCH = 1000


def predict(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return a network's class scores, (n, classes), without gradients and in evaluation mode.

    Parameters
    ----------
    network
        The network; its training mode is restored.
    inputs
        (n, ...) images.

    Examples
    --------
    >>> predict(nn.Linear(3, 2), torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """
    training = network.training
    network.eval()
    with torch.no_grad():
        scores = torch.cat([network(part) for part in inputs.split(_BATCH)])
    network.train(training)
    return scores


def accuracy(network: nn.Module, images: Images) -> float:
    """Return the percentage of images whose highest score is that of their label.

    Examples
    --------
    >>> accuracy(nn.Identity(), Images(torch.eye(4), torch.tensor([0, 1, 2, 0])))
    75.0
    """
    return 100 * float((predict(network, images.inputs).argmax(1) == images.labels).double().mean())


def class_accuracies(scores: Tensor, labels: Tensor) -> list[float]:
    """Return the percentage of correct predictions of every class.

    Parameters
    ----------
    scores
        (n, classes).
    labels
        (n,) int64.

    Examples
    --------
    >>> class_accuracies(torch.eye(2), torch.tensor([0, 0]))
    [50.0, nan]
    """
    right = (scores.argmax(1) == labels).double()
    return [100 * float(right[labels == label].mean()) for label in range(scores.shape[1])]


def recalibrate_batch_norm(network: nn.Module, inputs: Tensor) -> nn.Module:
    """Return a copy whose batch norms have the statistics of its own activations.

    The activations of averaged networks have a smaller variance than the average of the networks' variances, so any
    average of networks with batch norm needs this.

    Parameters
    ----------
    network
        Not changed.
    inputs
        (n, ...) images on which the statistics are measured.

    Returns
    -------
    torch.nn.Module
        The recalibrated copy.

    Examples
    --------
    >>> network = recalibrate_batch_norm(nn.BatchNorm1d(2), torch.tensor([[0.0, 1.0], [4.0, 1.0]]))
    >>> network.running_mean
    tensor([2., 1.])
    """
    result = copy.deepcopy(network)
    for module in result.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            # None selects the mean over all batches.
            module.momentum = None
            module.train()
        else:
            module.training = False
    with torch.no_grad():
        for part in inputs.split(_BATCH):
            result(part)
    for module, original in zip(result.modules(), network.modules(), strict=True):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and isinstance(original, type(module)):
            module.momentum = original.momentum
    return result.train(network.training)


@dataclass(frozen=True)
class Teacher:
    """The teacher of a distillation.

    Attributes
    ----------
    network
        The network whose softened scores are the targets.
    temperature
        Divisor of both networks' scores.
    weight
        Weight of the distillation loss; that of the labels is ``1 - weight``.

    References
    ----------
    Model Fusion via Optimal Transport, supplement S12; Hinton et al., arXiv 1503.02531: the distillation loss is
    multiplied by the squared temperature, so that its gradients keep their scale.
    """

    network: nn.Module
    temperature: float = 4.0
    weight: float = 0.05

    def __post_init__(self) -> None:
        if not self.temperature > 0 or not 0 <= self.weight <= 1:
            raise UsageError(
                f"temperature {self.temperature:g} and weight {self.weight:g}, expected one above 0 and one in [0, 1]"
            )


@renamed_arguments(rate="learning_rate", batch="batch_size")
def train(
    network: nn.Module,
    images: Images,
    *,
    epochs: int = 10,
    learning_rate: float = 0.01,
    momentum: float = 0.5,
    batch_size: int = 64,
    teacher: Teacher | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> nn.Module:
    """Train, finetune or distil a copy of a network by stochastic gradient descent at a constant learning rate.

    Parameters
    ----------
    network
        The initial network; it is not changed.
    images
        Training images.
    epochs, learning_rate, momentum, batch_size
        The defaults are the paper's for MLPNet.
    teacher
        Teacher whose scores are targets besides the labels.
    seed
        Seed of the order of images.
    progress
        Called after every epoch; raising from it cancels.

    Returns
    -------
    torch.nn.Module
        The trained network, in evaluation mode.

    Examples
    --------
    >>> images = Images(torch.eye(4).repeat(50, 1), torch.arange(200) % 4)
    >>> accuracy(train(nn.Linear(4, 4), images, epochs=20, learning_rate=0.5), images)
    100.0
    """
    student = copy.deepcopy(network).train()
    targets = None if teacher is None else predict(teacher.network, images.inputs)
    optimizer = torch.optim.SGD(student.parameters(), lr=learning_rate, momentum=momentum)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        progress(Tick("training", epoch, epochs))
        for rows in torch.randperm(len(images), generator=generator).split(batch_size):
            scores = student(images.inputs[rows])
            loss = functional.cross_entropy(scores, images.labels[rows])
            if teacher is not None and targets is not None:
                distillation = _distillation_loss(scores, targets[rows], teacher.temperature)
                loss = (1 - teacher.weight) * loss + teacher.weight * distillation
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    progress(Tick("training", epochs, epochs))
    return student.eval()


def _distillation_loss(scores: Tensor, targets: Tensor, temperature: float) -> Tensor:
    log_scores, log_targets = (scores / temperature).log_softmax(1), (targets / temperature).log_softmax(1)
    return temperature**2 * functional.kl_div(log_scores, log_targets, log_target=True, reduction="batchmean")
