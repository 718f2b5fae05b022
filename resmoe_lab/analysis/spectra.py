"""Singular spectra of a layer's experts, how heavy their tails are, and how far the aligned experts lie apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from ..centers import Center
from ..experts import ExpertStack
from ..methods._spectra import squared_spectrum

#: So many singular values of a matrix are kept for pictures, the first ones close together.
_POINTS = 96


@dataclass(frozen=True, eq=False)
class Spectra:
    """Singular values of each expert's matrices, and the exponent of their tails.

    Parameters
    ----------
    values
        Columns ``layer, expert, part, rank, singular_value``: at up to 96 ranks, from 1 on.
    exponents
        Columns ``layer, expert, part, exponent``: see :func:`tail_exponent`.
    """

    values: pd.DataFrame
    exponents: pd.DataFrame


def expert_spectra(stack: ExpertStack) -> Spectra:
    """Compute the singular values of every weight matrix of a layer's experts; biases have none.

    Parameters
    ----------
    stack
        The experts.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> spectra = expert_spectra(rl.load_stack(rl.open_checkpoint("mixtral-tiny"), layer=0))
    >>> spectra.exponents.groupby("part")["exponent"].mean().round(2).to_dict()
    {'w1': 2.75, 'w2': 3.0, 'w3': 2.73}
    """
    values, exponents = [], []
    for expert, weights in enumerate(stack.weights):
        for block in stack.blocks:
            if block.stop - block.start < 2:
                continue
            squares = squared_spectrum(weights[:, block.start : block.stop]).double().clamp(min=0)
            eigenvalues = np.sort(squares.cpu().numpy())
            exponents.append((stack.layer, expert, block.name, tail_exponent(eigenvalues)))
            falling = np.sqrt(eigenvalues[::-1])
            ranks = np.unique(np.geomspace(1, len(falling), _POINTS).round().astype(int))
            values += [(stack.layer, expert, block.name, int(rank), float(falling[rank - 1])) for rank in ranks]
    return Spectra(
        pd.DataFrame(values, columns=["layer", "expert", "part", "rank", "singular_value"]),
        pd.DataFrame(exponents, columns=["layer", "expert", "part", "exponent"]),
    )


def tail_exponent(eigenvalues: np.ndarray) -> float:
    """Fit a power law to the upper half of a spectrum.

    Parameters
    ----------
    eigenvalues
        (n,) rising: squared singular values.

    Returns
    -------
    float
        1 + k / sum_{i=1}^{k} ln(l_{n-i+1} / l_{n-k}) with k = n // 2: Hill's estimate for a density that falls as
        l^-alpha. NaN where fewer than two values are above zero, or all in the tail are equal.

    References
    ----------
    Hill, A Simple General Approach to Inference About the Tail of a Distribution, 1975; as ``PL_Alpha_Hill`` in Zhou et
    al., Temperature Balancing, Layer-wise Weight Analysis, and Neural Network Training (arXiv 2312.00359).

    Examples
    --------
    >>> round(tail_exponent(np.array([1.0, 1.0, np.e, np.e])), 6)
    2.0
    """
    k = len(eigenvalues) // 2
    if k < 1 or eigenvalues[-k - 1] <= 0:
        return math.nan
    total = float(np.log(eigenvalues[-k:] / eigenvalues[-k - 1]).sum())
    return 1 + k / total if total > 0 else math.nan


def expert_distances(stack: ExpertStack, center: Center) -> np.ndarray:
    """Return how far the experts lie apart once their neurons are in the order of a center's.

    Parameters
    ----------
    stack, center
        The experts, and the center that aligns them.

    Returns
    -------
    numpy.ndarray
        (N, N) float64: ||W_i[T_i] - W_j[T_j]||_F as a share of the root of the mean of both squared norms. Unrelated
        experts of one size are 1.41 apart, less what alignment finds by chance; equal ones 0.
    """
    count = stack.num_experts
    products = torch.zeros(count, count, dtype=torch.float64)
    for rows in center.permutations.to(stack.weights.device).split(64, dim=1):
        aligned = torch.stack([weights[order] for weights, order in zip(stack.weights, rows, strict=True)])
        flat = aligned.flatten(1).double()
        products += (flat @ flat.T).cpu()
    squares = products.diagonal()
    sums = squares[:, None] + squares
    distances = ((sums - 2 * products).clamp(min=0) / (sums / 2).clamp(min=1e-300)).sqrt()
    return distances.fill_diagonal_(0.0).numpy()


@dataclass(frozen=True, eq=False)
class SharingTree:
    """Which experts could share a center: a tree of mean distances between groups of them.

    Parameters
    ----------
    links
        (N - 1, 4) as scipy's ``linkage`` returns it: the two groups that are joined, their distance, and the number of
        experts.
    groups
        Expert -> number of its group where the tree is cut at its widest gap; one group for all where no gap is wide.
    """

    links: np.ndarray
    groups: Mapping[int, int]


#: The widest gap between two joins is one where it is this share of the last join.
_WIDE = 0.15


def sharing_tree(distances: np.ndarray) -> SharingTree:
    """Join the two groups of experts that are nearest on average, again and again.

    Parameters
    ----------
    distances
        (N, N): see :func:`expert_distances`.

    Examples
    --------
    >>> near = np.array([[0, 0.1, 1], [0.1, 0, 1], [1, 1, 0]])
    >>> sharing_tree(near).groups
    {0: 0, 1: 0, 2: 1}
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    count = len(distances)
    if count < 2:
        return SharingTree(np.zeros((0, 4)), dict.fromkeys(range(count), 0))
    symmetric = (distances + distances.T) / 2
    links = linkage(squareform(symmetric, checks=False), method="average")
    heights = links[:, 2]
    gaps = np.diff(heights)
    widest = int(gaps.argmax()) if len(gaps) else 0
    if not len(gaps) or gaps[widest] < _WIDE * heights[-1]:
        return SharingTree(links, dict.fromkeys(range(count), 0))
    labels = fcluster(links, (heights[widest] + heights[widest + 1]) / 2, criterion="distance")
    names = {label: number for number, label in enumerate(dict.fromkeys(labels.tolist()))}
    return SharingTree(links, {expert: names[label] for expert, label in enumerate(labels.tolist())})
