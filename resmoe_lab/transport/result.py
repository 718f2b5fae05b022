"""The result of a barycenter search."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .search_config import SearchConfig


@dataclass(frozen=True)
class Certificate:
    """A lower bound on the objective of every possible center.

    Attributes
    ----------
    lower_bound
        No center has a lower objective (for an ``"estimate"``: in expectation only).
    gap
        ``(objective - lower_bound) / lower_bound``, at least 0; 0/0 counts as 0.
    kind
        ``"bound"`` if every pair of experts was bounded, ``"estimate"`` if pairs were sampled.
    pairs
        Number of pairs that were bounded.
    """

    lower_bound: float
    gap: float
    kind: str
    pairs: int


@dataclass(frozen=True)
class Step:
    """One round of a solver.

    Attributes
    ----------
    name, number
        The solver and its round, such as ``"alternating"`` 1.
    objective
        The objective after the round.
    seconds
        Time since the start of the search.
    changed
        Number of neurons whose match changed.
    """

    name: str
    number: int
    objective: float
    seconds: float
    changed: int


@dataclass(frozen=True)
class Barycenter:
    """A center, the permutations that align the experts with it, and its certificate.

    Attributes
    ----------
    center
        (p_I, D) float32, on the device of the experts.
    permutations
        (N, p_I) int64 on the CPU: row i of the aligned expert k is ``stack[k][permutations[k, i]]``.
    objective
        ``sum_k w_k ||W_k[T_k] - center||_F^2`` (w_k = 1/N unless weights were given), accumulated in float64.
    history
        One record per round, first to last.
    iterations
        Number of rounds.
    seconds
        Wall time of the search, including the certificate.
    solver
        The solver's name.
    certificate
        Lower bound and gap of the objective; None if it was not requested.
    plan
        The settings of the search and why they were selected.

    References
    ----------
    The paper's equation (4) and Proposition 4.1.
    """

    center: Tensor
    permutations: Tensor
    objective: float
    history: tuple[Step, ...]
    iterations: int
    seconds: float
    solver: str
    certificate: Certificate | None
    plan: SearchConfig
