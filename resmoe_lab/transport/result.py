"""What a search for a barycenter returns."""

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
        No center can have a lower objective (an ``"estimate"`` only expects so).
    gap
        ``(objective - lower_bound) / lower_bound``, at least 0; 0/0 counts as 0.
    kind
        ``"bound"`` if every pair of experts was looked at, ``"estimate"`` if pairs were sampled.
    pairs
        How many pairs were looked at.
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
        The solver's round, such as ``"alternating"`` 1.
    objective
        After the round.
    seconds
        Since the start of the run.
    changed
        How many neurons were matched differently than before.
    """

    name: str
    number: int
    objective: float
    seconds: float
    changed: int


@dataclass(frozen=True)
class Barycenter:
    """A center expert, the permutations that align the experts with it, and what is known about its quality.

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
        Wall time of the whole search, the certificate included.
    solver
        The solver's name.
    certificate
        How far the objective can be from the best possible one; None if it was not asked for.
    plan
        How the search was done, and why.

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
