"""How alike two samples are: kernel distances with their uncertainty, precision and recall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .._core.errors import UsageError

#: The confidence that an interval is named by.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """An estimated number.

    Parameters
    ----------
    value
        The estimate.
    low, high
        Bootstrap interval of 95 %.
    """

    value: float
    low: float
    high: float


def kernel_mmd(
    first: Tensor, second: Tensor, *, bandwidth: float | None = None, draws: int = 500, seed: int = 0
) -> Estimate:
    """Return the squared maximum mean discrepancy of two samples, without bias: it may be below 0.

    Parameters
    ----------
    first, second
        (n, D) points each, drawn independently of one another.
    bandwidth
        Standard deviation of the Gaussian kernel; the median distance between all points if not given.
    draws, seed
        How often points are drawn again for the interval, and the seed. The interval is made for samples that differ:
        of one distribution it is only a rough guide.

    Raises
    ------
    UsageError
        If the samples are not of one shape, or have fewer than two points.

    References
    ----------
    Gretton et al., A kernel two-sample test (2012), lemma 6 for samples of one size.

    Examples
    --------
    >>> points = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    >>> found = kernel_mmd(points[:100], points[100:] + 3)
    >>> 0 < found.low < found.value < found.high
    True
    """
    if first.shape != second.shape or first.ndim != 2 or len(first) < 2:
        raise UsageError(
            f"samples of shapes {tuple(first.shape)} and {tuple(second.shape)}, expected one shape of 2 points or more"
        )
    both = torch.cat([first, second]).double()
    squared = torch.cdist(both, both).square()
    if bandwidth is None:
        above = torch.triu_indices(len(both), len(both), 1)
        bandwidth = float(squared[above[0], above[1]].median().sqrt()) or 1.0
    kernel = torch.exp(-squared / (2 * bandwidth**2))
    count = len(first)
    across = kernel[:count, count:]
    pairs = (kernel[:count, :count] + kernel[count:, count:] - across - across.T).fill_diagonal_(0).numpy()
    random = np.random.default_rng(seed)
    drawn = [np.ones(count), *random.multinomial(count, np.full(count, 1 / count), size=draws).astype(float)]
    # A point that is drawn twice is no pair of points.
    values = [times @ pairs @ times / (times.sum() ** 2 - (times**2).sum()) for times in drawn]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values[1:], [tail, 100 - tail])
    return Estimate(float(values[0]), float(low), float(high))


def precision_recall(real: Tensor, generated: Tensor, *, neighbours: int = 3) -> tuple[float, float]:
    """Return which share of generated points lies among real ones, and of real ones among generated.

    A point lies among others if it is nearer to one of them than that one's k-th nearest neighbour of its own.

    Parameters
    ----------
    real, generated
        (n, D) and (m, D) features.
    neighbours
        k, below n and m.

    Returns
    -------
    precision, recall
        From 0 to 1.

    Raises
    ------
    UsageError
        If there are too few points.

    References
    ----------
    Kynkaanniemi et al., Improved precision and recall metric for assessing generative models (2019).

    Examples
    --------
    >>> line = torch.arange(10.0)[:, None]
    >>> precision_recall(line, line[:5] + 0.1, neighbours=1)
    (1.0, 0.6)
    """
    if not 1 <= neighbours < min(len(real), len(generated)):
        raise UsageError(
            f"{len(real)} and {len(generated)} points with {neighbours} neighbours, expected more points than these"
        )
    across = torch.cdist(generated.double(), real.double())

    def reach(points: Tensor) -> Tensor:
        return torch.cdist(points.double(), points.double()).kthvalue(neighbours + 1, dim=1).values

    precision = (across <= reach(real)).any(dim=1).double().mean()
    recall = (reach(generated) >= across.T).any(dim=1).double().mean()
    return float(precision), float(recall)
