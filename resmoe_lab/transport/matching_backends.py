"""Where matches come from: the design matrices themselves, or (see gram.py) their inner products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from torch import Tensor

from .matching import Match, match
from .problem import Problem
from .threads import in_lanes


@dataclass(frozen=True)
class Rematch:
    """An expert matched with the mean anew.

    Attributes
    ----------
    permutation
        (p_I,) int64: row i of the aligned expert.
    potential
        (p_I,) float64 column potentials, to start the next assignment from.
    gain
        How much nearer the mean the expert has come, as a sum of squared distances; 0 if nothing changed.
    """

    permutation: Tensor
    potential: Tensor
    gain: float


class Geometry(Protocol):
    """What a solver asks of the experts.

    `permutations` (N, p_I) are the ones that the mean is taken with, `buffer` is the (p_I, p_I) float32 matrix that
    every assignment works in.
    """

    permutations: Tensor
    buffer: Tensor

    @property
    def lanes(self) -> int:
        """How many matches are made at a time."""

    def pairs(self, wanted: Sequence[tuple[int, int, Tensor | None]]) -> list[Match]:
        """Match the rows of expert i with those of expert j, for all (i, j, guess)."""

    def place(self, permutations: Tensor, *, only: Sequence[int] | None = None) -> None:
        """Align all experts anew, (N, p_I) int64; with `only`, the mean is of these alone until others are moved."""

    def move(self, k: int, permutation: Tensor) -> None:
        """Align expert k anew, (p_I,) int64; it is part of the mean then."""

    def to_mean(self, wanted: Sequence[tuple[int, Tensor | None]], *, others: bool) -> list[Rematch]:
        """Match the mean of the aligned experts with expert k, for all (k, potential); now's match is tried.

        With `others`, the mean is of the other experts, all of them as they are aligned now.
        """

    def close(self) -> None:
        """Give back what was kept."""


class Direct:
    """Every match computes the inner products that it needs, and no more."""

    def __init__(self, problem: Problem, *, lanes: int = 1) -> None:
        self._problem = problem
        self.buffer = problem.buffer()
        self._buffers = [self.buffer, *(problem.buffer() for _ in range(lanes - 1))]
        self._sum: Tensor | None = None
        self._members = set(range(problem.count))
        self.permutations = problem.identity()

    @property
    def lanes(self) -> int:
        """How many matches are made at a time."""
        return len(self._buffers)

    def pairs(self, wanted: Sequence[tuple[int, int, Tensor | None]]) -> list[Match]:
        """Match the rows of expert i with those of expert j, for all (i, j, guess)."""
        return in_lanes([partial(self._pair, i, j, guess) for i, j, guess in wanted], self._buffers)

    def _pair(self, i: int, j: int, guess: Tensor | None, buffer: Tensor) -> Match:
        experts = self._problem.experts
        return match(experts[i], experts[j], products=buffer, guess=guess)

    def place(self, permutations: Tensor, *, only: Sequence[int] | None = None) -> None:
        """Align all experts anew."""
        self.permutations = permutations.clone()
        self._sum, self._members = None, set(range(self._problem.count) if only is None else only)

    def move(self, k: int, permutation: Tensor) -> None:
        """Align expert k anew; the mean follows without being summed up again."""
        if self._sum is not None:
            weight = float(self._problem.weights[k])
            if k in self._members:
                self._problem.add_to(self._sum, k, self.permutations[k], factor=-weight)
            self._problem.add_to(self._sum, k, permutation, factor=weight)
        self._members.add(k)
        self.permutations[k] = permutation

    def to_mean(self, wanted: Sequence[tuple[int, Tensor | None]], *, others: bool) -> list[Rematch]:
        """Match the mean of the aligned experts (without expert k if `others`) with expert k, for all of them."""
        if self._sum is None:
            self._sum = self._problem.mean(self.permutations, members=self._members)
        return in_lanes([partial(self._to_mean, k, potential, others) for k, potential in wanted], self._buffers)

    def _to_mean(self, k: int, potential: Tensor | None, others: bool, buffer: Tensor) -> Rematch:
        problem, order = self._problem, self.permutations[k]
        weights = problem.weights.tolist()
        left_out = others and k in self._members
        share = sum(weights[m] for m in self._members if not (left_out and m == k))
        assert self._sum is not None
        center = self._sum if share == 1 else self._sum / share
        if left_out:
            problem.add_to(center, k, order, factor=-weights[k] / share)
        guess = order if k in self._members else None
        found = match(center, problem.experts[k], products=buffer, guess=guess, potential=potential)
        return Rematch(found.permutation, found.potential, found.gain)

    def close(self) -> None:
        """Nothing is kept."""
