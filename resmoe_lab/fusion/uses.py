"""What fusion is good for, each use as a table with the plain average and the ensemble beside it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from .._core.errors import UsageError
from .._core.params import Param
from .._core.progress import Progress, Tick, silent, tracked
from .checks import check_shares
from .fusing import Fusion, fuse
from .images import Images
from .peers import vanilla_average
from .pruning import NORMS, prune_neurons
from .training import Teacher, accuracy, class_accuracies, predict, renorm, train

#: How much of the second of two networks is in the mixture.
WEIGHT = Param("weight", 0.5, 0.0, 1.0, 0.05, "weight of the second network in the average")
#: What methods are called in tables and charts.
FUSED, PLAIN, ENSEMBLE = "OT average", "vanilla average", "ensemble"
#: The label of rows that tell the accuracy on all classes.
ALL = "all"


def compare(
    networks: Sequence[nn.Module],
    images: Images,
    *,
    weights: Sequence[float] | Tensor | None = None,
    norms_from: Tensor | None = None,
    **how: Any,
) -> pd.DataFrame:
    """Test several networks, their ensemble, their plain average and their fusion.

    Parameters
    ----------
    networks, weights
        K networks and their shares.
    images
        What is tested on.
    norms_from
        Inputs that batch norms of both averages are measured on anew, see :func:`~resmoe_lab.fusion.renorm`.
    how
        Further keywords of :func:`~resmoe_lab.fusion.fuse`.

    Returns
    -------
    pandas.DataFrame
        Columns ``method, accuracy`` (percent). Networks of unequal widths have no plain average.

    References
    ----------
    Model Fusion via Optimal Transport, section 5.1 and supplement S7.
    """
    shares = check_shares(weights, len(networks))
    scores = [predict(network, images.inputs) for network in networks]
    rows = [(f"network {index}", _right(each, images)) for index, each in enumerate(scores)]
    rows.append((ENSEMBLE, _right(_mixed(scores, shares), images)))
    averages = {PLAIN: vanilla_average(networks, weights=shares)} if _same_shape(networks) else {}
    averages[FUSED] = fuse(networks, weights=shares, **how).network
    for name, network in averages.items():
        rows.append((name, accuracy(network if norms_from is None else renorm(network, norms_from), images)))
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
    """Test two networks in all proportions: one-shot transfer of a skill that only one of them has.

    Parameters
    ----------
    networks
        The two that were fused.
    images
        What is tested on.
    fusion
        Their fusion; nothing is matched anew.
    weights
        Of the second network; steps of 0.05 where they are left out.
    names
        What the two are called.
    progress
        Told after every weight; raising from it cancels.

    Returns
    -------
    pandas.DataFrame
        Columns ``weight, method, label, accuracy`` (percent); the label is ``"all"`` or a class. The two networks
        themselves have a row at every weight.

    References
    ----------
    Model Fusion via Optimal Transport, figures 2 and 4.
    """
    if len(networks) != 2 or len(names) != 2:
        raise UsageError(f"{len(networks)} networks and {len(names)} names, expected two of each: compare() takes more")
    scores = [predict(network, images.inputs) for network in networks]
    rows: list[tuple[float, str, str, float]] = []
    for weight in tracked([*(WEIGHT.grid() if weights is None else weights)], "mixing", progress):
        shares = check_shares([1 - weight, weight], 2)
        found = dict(zip(names, scores, strict=True))
        found[ENSEMBLE] = _mixed(scores, shares)
        if _same_shape(networks):
            found[PLAIN] = predict(vanilla_average(networks, weights=shares), images.inputs)
        found[FUSED] = predict(fusion.mix(shares), images.inputs)
        for method, each in found.items():
            rows.append((weight, method, ALL, _right(each, images)))
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
    **how: Any,
) -> pd.DataFrame:
    """Prune neurons, and fuse the network as it was into what is left of it.

    Parameters
    ----------
    network, images
        What is pruned, and tested on.
    shares, norms, layers, seed
        As :func:`~resmoe_lab.fusion.prune_neurons` takes them.
    progress
        Told after every case; raising from it cancels.
    how
        Further keywords of :func:`~resmoe_lab.fusion.fuse`.

    Returns
    -------
    pandas.DataFrame
        Columns ``norm, share, pruned, fused`` (percent of right answers).

    References
    ----------
    Model Fusion via Optimal Transport, section 5.2 (a) and supplement S8.
    """
    rows = []
    for norm, share in tracked([(norm, share) for norm in norms for share in shares], "pruning", progress):
        pruned = prune_neurons(network, share, norm=norm, layers=layers, seed=seed)
        fused = fuse([network, pruned], **how).network
        rows.append((norm, share, accuracy(pruned, images), accuracy(fused, images)))
    return pd.DataFrame(rows, columns=["norm", "share", "pruned", "fused"])


def fused_starts(teacher: nn.Module, student: nn.Module, *, seed: int = 0, **how: Any) -> Mapping[str, nn.Module]:
    """Return what a small network's training may start from: at random, as it is, or fused with its teacher.

    Parameters
    ----------
    teacher, student
        Trained networks; the student's widths are kept.
    seed
        Draws the random start.
    how
        Further keywords of :func:`~resmoe_lab.fusion.fuse`.
    """
    fresh = copy.deepcopy(student)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in fresh.modules():
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
                module.reset_parameters()
    return {"random": fresh, "student": student, FUSED: fuse([teacher, student], **how).network}


def learn_from(
    starts: Mapping[str, nn.Module],
    images: Images,
    test: Images,
    *,
    teacher: Teacher | None = None,
    progress: Progress = silent,
    **training: Any,
) -> pd.DataFrame:
    """Finetune every start, or distil a teacher into it, with the same settings.

    Parameters
    ----------
    starts
        Networks by name, see :func:`fused_starts`.
    images, test
        What is learnt, and tested on.
    teacher
        None to finetune on the labels alone.
    progress
        Told after every start; raising from it cancels.
    training
        Further keywords of :func:`~resmoe_lab.fusion.train`.

    Returns
    -------
    pandas.DataFrame
        Columns ``start, before, after`` (percent of right answers).

    References
    ----------
    Model Fusion via Optimal Transport, section 5.4 and supplements S11 and S12.
    """
    rows = []
    for done, (name, network) in enumerate(starts.items()):
        progress(Tick("starts", done, len(starts), {"start": name}))
        learnt = train(network, images, teacher=teacher, progress=progress, **training)
        rows.append((name, accuracy(network, test), accuracy(learnt, test)))
    progress(Tick("starts", len(starts), len(starts)))
    return pd.DataFrame(rows, columns=["start", "before", "after"])


def _same_shape(networks: Sequence[nn.Module]) -> bool:
    shapes = [[tensor.shape for tensor in network.state_dict().values()] for network in networks]
    return all(each == shapes[0] for each in shapes)


def _mixed(scores: Sequence[Tensor], shares: Tensor) -> Tensor:
    return torch.stack([share * each for share, each in zip(shares.tolist(), scores, strict=True)]).sum(0)


def _right(scores: Tensor, images: Images) -> float:
    return 100 * float((scores.argmax(1) == images.labels).double().mean())
