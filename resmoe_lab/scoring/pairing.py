"""Paired differences: two models are compared row by row on the rows that both answered."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .._core.errors import UsageError
from .outcome import Outcome

#: Bootstrap samples, and the share of them that the interval holds.
SAMPLES, CONFIDENCE = 2000, 0.95
#: Row numbers drawn at once.
_BATCH_ENTRIES = 1 << 22


@dataclass(frozen=True)
class Difference:
    """What changes from one model to another in a task's main figure.

    Parameters
    ----------
    value
        The other model's figure minus the first one's.
    stderr
        Standard deviation over bootstrap samples.
    low, high
        Bootstrap percentile interval of 95 %.
    p_value
        McNemar's exact test for accuracies: how likely so uneven a change of answers is if both models are equally
        good. NaN for perplexities.
    """

    value: float
    stderr: float
    low: float
    high: float
    p_value: float


def paired_difference(first: Outcome, other: Outcome, *, seed: int = 0) -> Difference:
    """Compare two models on the same rows of one task.

    Parameters
    ----------
    first, other
        Outcomes of the same task.
    seed
        For the bootstrap.

    Raises
    ------
    UsageError
        If they are not of the same rows.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13; McNemar, Psychometrika 12 (1947).
    """
    if first.main.task != other.main.task or len(first.rows) != len(other.rows):
        raise UsageError(
            f"{len(first.rows)} rows of {first.main.task} and {len(other.rows)} of {other.main.task} cannot be paired, "
            "expected the same rows: score both with the same task and limit"
        )
    value = other.main.value - first.main.value
    n = len(first.rows)
    if n < 2:
        return Difference(value, math.nan, math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    samples: list[np.ndarray] = []
    step = max(1, _BATCH_ENTRIES // n)
    for begin in range(0, SAMPLES, step):
        picks = rng.integers(0, n, size=(min(step, SAMPLES - begin), n))
        samples.append(other.value_of(picks) - first.value_of(picks))
    spread = np.concatenate(samples)
    low, high = np.quantile(spread, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Difference(value, float(spread.std(ddof=1)), float(low), float(high), mcnemar(first, other))


def mcnemar(first: Outcome, other: Outcome) -> float:
    """Two-sided exact p-value of McNemar's test: of the rows answered differently, half should go either way."""
    from scipy.stats import binomtest

    if first.weights is not None:
        return math.nan
    gained = int(((first.rows == 0) & (other.rows == 1)).sum())
    lost = int(((first.rows == 1) & (other.rows == 0)).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
