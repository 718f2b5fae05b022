"""Where matches come from: the design matrices themselves, or (see gram.py) their inner products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .matching import Match, match
from .problem import Problem


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

    def pair(self, i: int, j: int, *, guess: Tensor | None = None) -> Match:
        """Match the rows of expert i with those of expert j."""

    def place(self, permutations: Tensor) -> None:
        """Align all experts anew, (N, p_I) int64."""

    def move(self, k: int, permutation: Tensor) -> None:
        """Align expert k anew, (p_I,) int64."""

    def to_mean(self, k: int, *, others: bool, potential: Tensor | None = None) -> Rematch:
        """Match the mean of the aligned experts (without expert k if `others`) with expert k; now's match is tried."""

    def close(self) -> None:
        """Give back what was kept."""


class Direct:
    """Every match computes the inner products that it needs, and no more."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.buffer = problem.buffer()
        self._mean: Tensor | None = None
        self.permutations = problem.identity()

    def pair(self, i: int, j: int, *, guess: Tensor | None = None) -> Match:
        """Match the rows of expert i with those of expert j."""
        experts = self._problem.experts
        return match(experts[i], experts[j], products=self.buffer, guess=guess)

    def place(self, permutations: Tensor) -> None:
        """Align all experts anew."""
        self.permutations = permutations.clone()
        self._mean = None

    def move(self, k: int, permutation: Tensor) -> None:
        """Align expert k anew; the mean follows without being summed up again."""
        if self._mean is not None:
            weight = float(self._problem.weights[k])
            self._problem.add_to(self._mean, k, self.permutations[k], factor=-weight)
            self._problem.add_to(self._mean, k, permutation, factor=weight)
        self.permutations[k] = permutation

    def to_mean(self, k: int, *, others: bool, potential: Tensor | None = None) -> Rematch:
        """Match the mean of the aligned experts (without expert k if `others`) with expert k."""
        problem, order = self._problem, self.permutations[k]
        if self._mean is None:
            self._mean = problem.mean(self.permutations)
        center = self._mean
        if others:
            weight = float(problem.weights[k])
            center = center / (1 - weight)
            problem.add_to(center, k, order, factor=-weight / (1 - weight))
        found = match(center, problem.experts[k], products=self.buffer, guess=order, potential=potential)
        return Rematch(found.permutation, found.potential, found.gain)

    def close(self) -> None:
        """Nothing is kept."""
