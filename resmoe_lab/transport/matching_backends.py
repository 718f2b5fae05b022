"""The interface of matching backends, and the one that works on the design matrices themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from torch import Tensor

from .._core.threads import map_with_buffers
from .matching import Match, match
from .problem import Problem


@dataclass(frozen=True)
class Realignment:
    """A new match of an expert with the mean.

    Attributes
    ----------
    permutation
        (p_I,) int64: row i of the aligned expert.
    potential
        (p_I,) float64 column potentials, the warm start of the next assignment.
    gain
        Decrease of the squared distance between expert and mean; 0 if nothing changed.
    """

    permutation: Tensor
    potential: Tensor
    gain: float


class MatchingBackend(Protocol):
    """Holds the permutations of a search, and matches experts with one another and with their mean.

    `permutations` (N, p_I) align the experts in the mean; `buffer` is the (p_I, p_I) float32 matrix that assignments
    work in.
    """

    permutations: Tensor
    buffer: Tensor

    @property
    def threads(self) -> int:
        """Number of matches made at the same time."""

    def match_pairs(self, queries: Sequence[tuple[int, int, Tensor | None]]) -> list[Match]:
        """Match the rows of expert i with those of expert j, for all (i, j, candidate)."""

    def set_permutations(self, permutations: Tensor, *, members: Sequence[int] | None = None) -> None:
        """Set the permutations of all experts, (N, p_I) int64, and the members of the mean (default: all experts)."""

    def set_permutation(self, k: int, permutation: Tensor) -> None:
        """Set the permutation of expert k, (p_I,) int64, and make it a member of the mean."""

    def match_to_mean(self, queries: Sequence[tuple[int, Tensor | None]], *, exclude_self: bool) -> list[Realignment]:
        """Match the mean of the aligned experts with expert k, for all (k, potential), trying the current match first.

        With `exclude_self`, the mean is of the other members; all means are of the current permutations.
        """

    def close(self) -> None:
        """Release what is cached."""


class DirectBackend:
    """Computes the inner products of every match when they are needed.

    Parameters
    ----------
    problem
        The experts.
    threads
        Number of matches made at the same time.
    """

    def __init__(self, problem: Problem, *, threads: int = 1) -> None:
        self._problem = problem
        self.buffer = problem.buffer()
        self._buffers = [self.buffer, *(problem.buffer() for _ in range(threads - 1))]
        self._sum: Tensor | None = None
        self._members = set(range(problem.count))
        self.permutations = problem.identity()

    @property
    def threads(self) -> int:
        """Number of matches made at the same time."""
        return len(self._buffers)

    def match_pairs(self, queries: Sequence[tuple[int, int, Tensor | None]]) -> list[Match]:
        """Match the rows of expert i with those of expert j, for all (i, j, candidate)."""
        return map_with_buffers(
            [partial(self._match_pair, i, j, candidate) for i, j, candidate in queries], self._buffers
        )

    def _match_pair(self, i: int, j: int, candidate: Tensor | None, buffer: Tensor) -> Match:
        experts = self._problem.experts
        return match(experts[i], experts[j], products=buffer, candidate=candidate)

    def set_permutations(self, permutations: Tensor, *, members: Sequence[int] | None = None) -> None:
        """Set the permutations of all experts, and the members of the mean."""
        self.permutations = permutations.clone()
        self._sum, self._members = None, set(range(self._problem.count) if members is None else members)

    def set_permutation(self, k: int, permutation: Tensor) -> None:
        """Set the permutation of expert k; the sum behind the mean is updated in place."""
        if self._sum is not None:
            weight = float(self._problem.weights[k])
            if k in self._members:
                self._problem.add_to(self._sum, k, self.permutations[k], factor=-weight)
            self._problem.add_to(self._sum, k, permutation, factor=weight)
        self._members.add(k)
        self.permutations[k] = permutation

    def match_to_mean(self, queries: Sequence[tuple[int, Tensor | None]], *, exclude_self: bool) -> list[Realignment]:
        """Match the mean of the aligned experts (without expert k if `exclude_self`) with expert k, for all queries."""
        if self._sum is None:
            self._sum = self._problem.mean(self.permutations, members=self._members)
        jobs = [partial(self._match_to_mean, k, potential, exclude_self) for k, potential in queries]
        return map_with_buffers(jobs, self._buffers)

    def _match_to_mean(self, k: int, potential: Tensor | None, exclude_self: bool, buffer: Tensor) -> Realignment:
        problem, order = self._problem, self.permutations[k]
        weights = problem.weights.tolist()
        excluded = exclude_self and k in self._members
        total = sum(weights[m] for m in self._members if not (excluded and m == k))
        assert self._sum is not None
        center = self._sum if total == 1 else self._sum / total
        if excluded:
            problem.add_to(center, k, order, factor=-weights[k] / total)
        candidate = order if k in self._members else None
        best = match(center, problem.experts[k], products=buffer, candidate=candidate, potential=potential)
        return Realignment(best.permutation, best.potential, best.gain)

    def close(self) -> None:
        """Do nothing: nothing is cached."""
