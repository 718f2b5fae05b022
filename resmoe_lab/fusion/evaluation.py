"""Applications of fusion, each evaluated in a table beside the vanilla average and the ensemble."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from .._core.deprecation import renamed_arguments
from .._core.errors import UsageError
from .._core.params import Param
from .._core.progress import Progress, Tick, silent, tracked
from .baselines import vanilla_average
from .checks import mixing_weights
from .fusing import Fusion, fuse
from .images import Images
from .pruning import NORMS, prune_neurons
from .training import Teacher, accuracy, class_accuracies, predict, recalibrate_batch_norm, train

#: The weight of the second of two networks in their average.
WEIGHT = Param("weight", 0.5, 0.0, 1.0, 0.05, "weight of the second network in the average")
#: Names of the methods in tables and charts.
FUSED, VANILLA, ENSEMBLE = "OT average", "vanilla average", "ensemble"
#: The label of rows with the accuracy on all classes.
ALL = "all"


@renamed_arguments(norms_from="batch_norm_inputs")
def compare(
    networks: Sequence[nn.Module],
    images: Images,
    *,
    weights: Sequence[float] | Tensor | None = None,
    batch_norm_inputs: Tensor | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Evaluate several networks, their ensemble, their vanilla average and their fusion.

    Parameters
    ----------
    networks, weights
        K networks and their weights in the averages.
    images
        Test images.
    batch_norm_inputs
        Inputs for :func:`~resmoe_lab.fusion.recalibrate_batch_norm` of both averages (default: no recalibration).
    options
        Further arguments of :func:`~resmoe_lab.fusion.fuse`.

    Returns
    -------
    pandas.DataFrame
        Columns ``method, accuracy`` (percent). Networks of unequal widths have no vanilla average.

    References
    ----------
    Model Fusion via Optimal Transport, section 5.1 and supplement S7.

    Examples
    --------
    >>> from resmoe_lab.fusion import MLPNet
    >>> images = Images(torch.zeros(6, 4), torch.arange(6) % 2)
    >>> compare([MLPNet((4, 3, 2)), MLPNet((4, 3, 2))], images)["method"].tolist()
    ['network 0', 'network 1', 'ensemble', 'vanilla average', 'OT average']
    """
    mixing = mixing_weights(weights, len(networks))
    scores = [predict(network, images.inputs) for network in networks]
    rows = [(f"network {index}", _accuracy(each, images)) for index, each in enumerate(scores)]
    rows.append((ENSEMBLE, _accuracy(_mix(scores, mixing), images)))
    averages = {VANILLA: vanilla_average(networks, weights=mixing)} if _same_shape(networks) else {}
    averages[FUSED] = fuse(networks, weights=mixing, **options).network
    for name, network in averages.items():
        if batch_norm_inputs is not None:
            network = recalibrate_batch_norm(network, batch_norm_inputs)
        rows.append((name, accuracy(network, images)))
    return pd.DataFrame(rows, columns=["method", "accuracy"])


def mixing_curve(
    networks: Sequence[nn.Module],
    images: Images,
    *,
    fusion: Fusion,
    weights: Sequence[float] | None = None,
    names: Sequence[str] = ("A", "B"),
    progress: Progress = silent,
) -> pd.DataFrame:
    """Evaluate the averages of two networks for many weights: one-shot transfer of a skill that only one of them has.

    Parameters
    ----------
    networks
        The two networks that were fused.
    images
        Test images.
    fusion
        Their fusion, whose alignment is used for all weights.
    weights
        Weights of the second network (default: in steps of 0.05).
    names
        Names of the two networks.
    progress
        Called after every weight; raising from it cancels.

    Returns
    -------
    pandas.DataFrame
        Columns ``weight, method, label, accuracy`` (percent); the label is ``"all"`` or a class. The two networks
        have rows at every weight.

    References
    ----------
    Model Fusion via Optimal Transport, figures 2 and 4.

    Examples
    --------
    >>> from resmoe_lab.fusion import MLPNet
    >>> networks = [MLPNet((4, 3, 2)), MLPNet((4, 3, 2))]
    >>> images = Images(torch.zeros(6, 4), torch.arange(6) % 2)
    >>> mixing_curve(networks, images, fusion=fuse(networks), weights=[0.5])["method"].unique().tolist()
    ['A', 'B', 'ensemble', 'vanilla average', 'OT average']
    """
    if len(networks) != 2 or len(names) != 2:
        raise UsageError(f"{len(networks)} networks and {len(names)} names, expected two of each: compare() takes more")
    scores = [predict(network, images.inputs) for network in networks]
    rows: list[tuple[float, str, str, float]] = []
    for weight in tracked([*(WEIGHT.grid() if weights is None else weights)], "mixing", progress):
        mixing = mixing_weights([1 - weight, weight], 2)
        method_scores = dict(zip(names, scores, strict=True))
        method_scores[ENSEMBLE] = _mix(scores, mixing)
        if _same_shape(networks):
            method_scores[VANILLA] = predict(vanilla_average(networks, weights=mixing), images.inputs)
        method_scores[FUSED] = predict(fusion.mix(mixing), images.inputs)
        for method, each in method_scores.items():
            rows.append((weight, method, ALL, _accuracy(each, images)))
            classes = enumerate(class_accuracies(each, images.labels))
            rows += [(weight, method, str(label), value) for label, value in classes]
    return pd.DataFrame(rows, columns=["weight", "method", "label", "accuracy"])


def repair_pruned(
    network: nn.Module,
    images: Images,
    *,
    shares: Sequence[float] = (0.3, 0.5, 0.7, 0.9),
    norms: Sequence[str] = NORMS,
    layers: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress = silent,
    **options: Any,
) -> pd.DataFrame:
    """Prune neurons, and repair the pruned network by fusion with the original one.

    Parameters
    ----------
    network, images
        The network that is pruned, and the test images.
    shares, norms, layers, seed
        See :func:`~resmoe_lab.fusion.prune_neurons`.
    progress
        Called after every case; raising from it cancels.
    options
        Further arguments of :func:`~resmoe_lab.fusion.fuse`.

    Returns
    -------
    pandas.DataFrame
        Columns ``norm, share, pruned, fused`` (accuracy in percent).

    References
    ----------
    Model Fusion via Optimal Transport, section 5.2 (a) and supplement S8.

    Examples
    --------
    >>> from resmoe_lab.fusion import MLPNet
    >>> images = Images(torch.zeros(6, 4), torch.arange(6) % 2)
    >>> repair_pruned(MLPNet((4, 8, 2)), images, shares=[0.5], norms=["l1"])[["norm", "share"]]
      norm  share
    0   l1    0.5
    """
    rows = []
    for norm, share in tracked([(norm, share) for norm in norms for share in shares], "pruning", progress):
        pruned = prune_neurons(network, share, norm=norm, layers=layers, seed=seed)
        fused = fuse([network, pruned], **options).network
        rows.append((norm, share, accuracy(pruned, images), accuracy(fused, images)))
    return pd.DataFrame(rows, columns=["norm", "share", "pruned", "fused"])


def student_initializations(
    teacher: nn.Module, student: nn.Module, *, seed: int = 0, **options: Any
) -> Mapping[str, nn.Module]:
    """Return initializations of a small network: random, as it is, and fused with its teacher.

    Parameters
    ----------
    teacher, student
        Trained networks; the student's widths are kept.
    seed
        Seed of the random initialization.
    options
        Further arguments of :func:`~resmoe_lab.fusion.fuse`.

    Returns
    -------
    dict
        Networks called ``"random"``, ``"student"`` and ``FUSED``.

    Examples
    --------
    >>> from resmoe_lab.fusion import MLPNet
    >>> list(student_initializations(MLPNet((4, 6, 2)), MLPNet((4, 3, 2))))
    ['random', 'student', 'OT average']
    """
    random = copy.deepcopy(student)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in random.modules():
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
                module.reset_parameters()
    return {"random": random, "student": student, FUSED: fuse([teacher, student], **options).network}


def train_students(
    starts: Mapping[str, nn.Module],
    images: Images,
    test: Images,
    *,
    teacher: Teacher | None = None,
    progress: Progress = silent,
    **training: Any,
) -> pd.DataFrame:
    """Finetune every initialization, or distil a teacher into it, with the same settings.

    Parameters
    ----------
    starts
        Networks by name, see :func:`~resmoe_lab.fusion.student_initializations`.
    images, test
        Training and test images.
    teacher
        Teacher of the distillation; None to finetune on the labels alone.
    progress
        Called after every network; raising from it cancels.
    training
        Further arguments of :func:`~resmoe_lab.fusion.train`.

    Returns
    -------
    pandas.DataFrame
        Columns ``start, before, after`` (accuracy in percent).

    References
    ----------
    Model Fusion via Optimal Transport, section 5.4 and supplements S11 and S12.

    Examples
    --------
    >>> images = Images(torch.eye(4).repeat(50, 1), torch.arange(200) % 4)
    >>> table = train_students({"linear": nn.Linear(4, 4)}, images, images, epochs=20, learning_rate=0.5)
    >>> table["after"].tolist()
    [100.0]
    """
    rows = []
    for done, (name, network) in enumerate(starts.items()):
        progress(Tick("starts", done, len(starts), {"start": name}))
        trained = train(network, images, teacher=teacher, progress=progress, **training)
        rows.append((name, accuracy(network, test), accuracy(trained, test)))
    progress(Tick("starts", len(starts), len(starts)))
    return pd.DataFrame(rows, columns=["start", "before", "after"])


def _same_shape(networks: Sequence[nn.Module]) -> bool:
    shapes = [[tensor.shape for tensor in network.state_dict().values()] for network in networks]
    return all(each == shapes[0] for each in shapes)


def _mix(scores: Sequence[Tensor], weights: Tensor) -> Tensor:
    return torch.stack([weight * each for weight, each in zip(weights.tolist(), scores, strict=True)]).sum(0)


def _accuracy(scores: Tensor, images: Images) -> float:
    return 100 * float((scores.argmax(1) == images.labels).double().mean())
