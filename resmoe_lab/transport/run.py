"""The state of a barycenter search: the experts, the options, and the rounds so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import torch
from torch import Tensor

from .._core.errors import UsageError
from .._core.progress import Progress, Tick, silent
from .._core.registry import Registry
from .._core.threads import chunked
from .bounds import bound_all_pairs
from .cost import objective
from .matching import Match
from .matching_backends import MatchingBackend, Realignment
from .problem import Problem
from .result import Step


@dataclass(frozen=True)
class Options:
    """The options of a search; see :func:`~resmoe_lab.transport.barycenter`.

    `match_pairs`: whether all pairs of experts will be matched for the certificate.
    """

    start: int | str = 0
    seed: int = 0
    max_iterations: int = 100
    tolerance: float = 2.5e-3
    restarts: int = 0
    random_order: bool = False
    match_pairs: bool = True

    def __post_init__(self) -> None:
        for name, minimum in (("max_iterations", 1), ("tolerance", 0), ("restarts", 0)):
            value = getattr(self, name)
            if not value >= minimum:
                raise UsageError(f"{name} is {value}, expected at least {minimum}")


@dataclass
class Run:
    """One search: its problem, backend and options, and the matches and rounds so far.

    `objective` is that of the last round in the unit of the search; steps have it in that of the experts.
    """

    problem: Problem
    backend: MatchingBackend
    options: Options = field(default_factory=Options)
    progress: Progress = silent
    steps: list[Step] = field(default_factory=list)
    objective: float = float("inf")
    matches: int = 0
    started: float = field(default_factory=time.perf_counter)
    _pairs: dict[tuple[int, int], Match] = field(default_factory=dict)
    _pair_bounds: tuple[Tensor, Tensor, Tensor] | None = None
    _result: tuple[Tensor, Tensor, float] | None = None

    def pair(self, i: int, j: int) -> Match:
        """Match experts i and j, once: the first round and the certificate share the matches."""
        key = (min(i, j), max(i, j))
        self.match_pairs([key])
        pair = self._pairs[key]
        return pair if i < j else replace(pair, permutation=pair.permutation.argsort())

    def match_pairs(self, pairs: Sequence[tuple[int, int]], *, try_aligned: bool = False) -> None:
        """Match pairs of experts, i < j, that have not been matched yet, as many at a time as there are threads.

        With `try_aligned`, the match that the current permutations imply is tried first.
        """
        permutations = self.backend.permutations
        missing = [key for key in pairs if key not in self._pairs]
        for batch in chunked(missing, self.backend.threads):
            for _ in batch:
                self.tick("barycenter")
            queries = [(i, j, permutations[j][permutations[i].argsort()] if try_aligned else None) for i, j in batch]
            self._pairs.update(zip(batch, self.backend.match_pairs(queries), strict=True))

    def match_to_mean(self, queries: Sequence[tuple[int, Tensor | None]], *, exclude_self: bool) -> list[Realignment]:
        """Match the mean with experts, each with the potential that warm-starts its assignment."""
        realignments = []
        for batch in chunked(queries, self.backend.threads):
            for _ in batch:
                self.tick("barycenter")
            realignments += self.backend.match_to_mean(batch, exclude_self=exclude_self)
        return realignments

    def all_pairs(self) -> list[tuple[int, int]]:
        """Return every pair of experts, already matched ones first."""
        return sorted(combinations(range(self.problem.count), 2), key=lambda pair: pair not in self._pairs)

    def pair_bounds(self) -> tuple[Tensor, Tensor]:
        """Return the distances of all aligned pairs and their lower bounds.

        They come from :func:`~resmoe_lab.transport.bounds.bound_all_pairs` and are cached until the permutations
        change; the certificate writes tighter bounds into them.
        """
        permutations = self.backend.permutations
        if self._pair_bounds is None or not torch.equal(self._pair_bounds[0], permutations):
            bounds = bound_all_pairs(self.problem, permutations, center=self.result()[0], products=self.backend.buffer)
            self._pair_bounds = (permutations.clone(), *bounds)
        return self._pair_bounds[1:]

    def tick(self, task: str) -> None:
        """Report the start of an assignment; between two of them the search can be cancelled."""
        self.matches += 1
        facts = {"objective": self.steps[-1].objective, "round": len(self.steps)} if self.steps else {}
        self.progress(Tick(task, self.matches, None, facts))

    def record(self, name: str, value: float, changed: int) -> None:
        """Record and report one round; `value` is its objective in the unit of the search."""
        self.objective, value = value, self.problem.in_their_unit(value)
        number = sum(step.name == name for step in self.steps) + 1
        self.steps.append(Step(name, number, value, time.perf_counter() - self.started, changed))
        facts = {"objective": value, "changed": changed, "round": len(self.steps)}
        self.progress(Tick("barycenter", self.matches, None, facts))

    def result(self) -> tuple[Tensor, float]:
        """Return the center of the current permutations and its objective, computed from the experts themselves.

        Both are of the experts as the search sees them.
        """
        permutations = self.backend.permutations
        if self._result is None or not torch.equal(self._result[0], permutations):
            self._result = None  # frees the old center before the new one is allocated
            center = self.problem.mean(permutations)
            value = objective(self.problem.experts, permutations, center, weights=self.problem.weights)
            self._result = (permutations.clone(), center, value)
        return self._result[1:]

    def start_expert(self, start: int | str) -> int | None:
        """Return the expert that is the initial center, or None for the average."""
        count = self.problem.count
        if start == "average":
            return None
        if start == "medoid":
            return self._medoid()
        if isinstance(start, int) and not isinstance(start, bool) and 0 <= start < count:
            return start
        raise UsageError(f"start is {start!r}, expected an expert from 0 to {count - 1}, 'medoid' or 'average'")

    def _medoid(self) -> int:
        weights = self.problem.weights
        self.match_pairs(self.all_pairs())
        costs = self.problem.mean_distances.clone()
        for i in range(self.problem.count):
            for j in range(i):
                cost = costs[i, j] + self.pair(i, j).cost
                costs[i, j] = costs[j, i] = cost
        return int((costs @ weights).argmin())


#: A solver leaves its permutations in the run's backend.
Solver = Callable[[Run], None]
SOLVERS: Registry[Solver] = Registry("solver", "resmoe_lab.transport.solvers")
