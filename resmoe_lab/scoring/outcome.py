"""Outcomes of a task row by row, and the scores with standard errors that follow from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Score:
    """One figure of one task: the metric's value, its standard error, and the number of rows (or windows)."""

    task: str
    metric: str
    value: float
    stderr: float
    n: int


@dataclass(frozen=True)
class Outcome:
    """A task's scores, the main one first, with the rows that they are computed from.

    Parameters
    ----------
    scores
        The task's scores.
    rows
        (n,) float64: 1 or 0 for a right or wrong answer, or the summed loss of a window in nats; empty where the
        harness returns no more than the scores.
    weights
        (n,) float64: units of each window by which the main perplexity divides the losses; None for accuracies.
    labels
        (n,) int64, the right one of two, where the main figure is their Matthews correlation with the answers.
    """

    scores: tuple[Score, ...]
    rows: np.ndarray
    weights: np.ndarray | None = None
    labels: np.ndarray | None = None

    @property
    def main(self) -> Score:
        """The first score."""
        return self.scores[0]

    def value_of(self, picks: np.ndarray) -> np.ndarray:
        """Recompute the main figure on rows picked with repetition, as a bootstrap does.

        Parameters
        ----------
        picks
            (..., n) int64 row numbers.

        Returns
        -------
        numpy.ndarray
            (...) float64.
        """
        rows = self.rows[picks]
        if self.labels is not None:
            labels = self.labels[picks]
            return matthews(labels, np.where(rows == 1, labels, 1 - labels))
        if self.weights is None:
            return rows.mean(axis=-1)
        return np.exp(rows.sum(axis=-1) / self.weights[picks].sum(axis=-1))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        scores = [{**asdict(score), "stderr": _none_if_nan(score.stderr)} for score in self.scores]
        weights = None if self.weights is None else self.weights.tolist()
        labels = None if self.labels is None else self.labels.tolist()
        return {"scores": scores, "rows": self.rows.tolist(), "weights": weights, "labels": labels}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Outcome:
        """Return what :meth:`as_dict` has written."""
        scores = [
            Score(**{**score, "stderr": math.nan if score["stderr"] is None else score["stderr"]})
            for score in stored["scores"]
        ]
        weights = None if stored["weights"] is None else np.array(stored["weights"], dtype=np.float64)
        labels = None if stored["labels"] is None else np.array(stored["labels"], dtype=np.int64)
        return cls(tuple(scores), np.array(stored["rows"], dtype=np.float64), weights, labels)


def _none_if_nan(number: float) -> float | None:
    return None if math.isnan(number) else number


def matthews(labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Matthews correlation of (..., n) labels and answers that are 0 or 1: (...), 0 where one of them is constant."""
    label_mean, answer_mean = labels.mean(axis=-1), answers.mean(axis=-1)
    scale = np.sqrt(label_mean * (1 - label_mean) * answer_mean * (1 - answer_mean))
    covariance = (labels * answers).mean(axis=-1) - label_mean * answer_mean
    return np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)


def accuracy(task: str, right: Sequence[bool]) -> Outcome:
    """Share of right answers, with the standard error of a share (n - 1 in the denominator)."""
    n = len(right)
    share = sum(right) / n
    stderr = math.sqrt(share * (1 - share) / (n - 1)) if n > 1 else math.nan
    return Outcome((Score(task, "acc", share, stderr, n),), np.array(right, dtype=np.float64))


def perplexities(task: str, losses: np.ndarray, units: Mapping[str, np.ndarray]) -> Outcome:
    """Perplexities of windows.

    Parameters
    ----------
    task
        Its name.
    losses
        (n,) summed loss of each window, in nats.
    units
        Metric to the (n,) number of units of each window that the loss is divided by; the first is the main one. The
        standard error is that of a ratio over windows (delta method).
    """
    scores = tuple(_ratio(task, metric, losses, count) for metric, count in units.items())
    return Outcome(scores, losses, next(iter(units.values())))


def _ratio(task: str, metric: str, losses: np.ndarray, units: np.ndarray) -> Score:
    rate = losses.sum() / max(1, units.sum())
    value = math.exp(min(rate, 700.0))
    n = len(losses)
    spread = (losses - rate * units).std(ddof=1) / (units.mean() * math.sqrt(n)) if n > 1 else math.nan
    return Score(task, metric, value, float(value * spread), n)


def tabulate(scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """Return ``{task: {metric, value, stderr, n}}`` of each task's main score, further metrics beside it."""
    table: dict[str, dict[str, Any]] = {}
    for score in scores:
        if score.task in table:
            table[score.task][score.metric] = score.value
        else:
            table[score.task] = {
                "metric": score.metric,
                "value": score.value,
                "stderr": _none_if_nan(score.stderr),
                "n": score.n,
            }
    return table
