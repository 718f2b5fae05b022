"""What every solver is handed: the experts, its options, and the record of what has been done."""

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
from .bounds import screen
from .cost import objective
from .matching import Match
from .matching_backends import Geometry, Rematch
from .problem import Problem
from .result import Step
from .threads import chunks


@dataclass(frozen=True)
class Options:
    """What a caller may choose; see :func:`~resmoe_lab.transport.barycenter`.

    `match_pairs`: all pairs of experts will be matched anyway, for the certificate.
    """

    start: int | str = 0
    seed: int = 0
    max_iterations: int = 100
    tolerance: float = 2.5e-3
    restarts: int = 0
    random_order: bool = False
    match_pairs: bool = True

    def __post_init__(self) -> None:
        for name, least in (("max_iterations", 1), ("tolerance", 0), ("restarts", 0)):
            value = getattr(self, name)
            if not value >= least:
                raise UsageError(f"{name} is {value}, expected at least {least}")


@dataclass
class Run:
    """One search: what it works on, what it may do, and what it has done so far."""

    problem: Problem
    geometry: Geometry
    options: Options = field(default_factory=Options)
    progress: Progress = silent
    steps: list[Step] = field(default_factory=list)
    matches: int = 0
    began: float = field(default_factory=time.perf_counter)
    _pairs: dict[tuple[int, int], Match] = field(default_factory=dict)
    _screened: tuple[Tensor, Tensor, Tensor] | None = None
    _result: tuple[Tensor, Tensor, float] | None = None

    def pair(self, i: int, j: int) -> Match:
        """Match experts i and j, once: the certificate is made of the same matches as the first round."""
        key = (min(i, j), max(i, j))
        self.match_pairs([key])
        found = self._pairs[key]
        return found if i < j else replace(found, permutation=found.permutation.argsort())

    def match_pairs(self, wanted: Sequence[tuple[int, int]], *, aligned: bool = False) -> None:
        """Match pairs of experts, i < j, that have not been matched yet, as many at a time as there are lanes.

        With `aligned`, the match that the present permutations make is tried first.
        """
        orders = self.geometry.permutations
        missing = [key for key in wanted if key not in self._pairs]
        for some in chunks(missing, self.geometry.lanes):
            for _ in some:
                self.tick("barycenter")
            guesses = [orders[j][orders[i].argsort()] if aligned else None for i, j in some]
            found = self.geometry.pairs([(i, j, guess) for (i, j), guess in zip(some, guesses, strict=True)])
            self._pairs.update(zip(some, found, strict=True))

    def to_mean(self, wanted: Sequence[tuple[int, Tensor | None]], *, others: bool) -> list[Rematch]:
        """Match the mean with experts, each with the potential that its assignment starts from."""
        found = []
        for some in chunks(wanted, self.geometry.lanes):
            for _ in some:
                self.tick("barycenter")
            found += self.geometry.to_mean(some, others=others)
        return found

    def all_pairs(self) -> list[tuple[int, int]]:
        """Return every pair of experts, those that have been matched already first."""
        return sorted(combinations(range(self.problem.count), 2), key=lambda pair: pair not in self._pairs)

    def screened(self) -> tuple[Tensor, Tensor]:
        """Return the distances of all aligned pairs and their bounds, see :func:`~resmoe_lab.transport.bounds.screen`.

        They are kept until the permutations change; whoever finds better bounds writes them in.
        """
        permutations = self.geometry.permutations
        if self._screened is None or not torch.equal(self._screened[0], permutations):
            found = screen(self.problem, permutations, center=self.result()[0], products=self.geometry.buffer)
            self._screened = (permutations.clone(), *found)
        return self._screened[1:]

    def tick(self, task: str) -> None:
        """Report that one more assignment begins; between two of them is where work can be cancelled."""
        self.matches += 1
        facts = {"objective": self.steps[-1].objective, "round": len(self.steps)} if self.steps else {}
        self.progress(Tick(task, self.matches, None, facts))

    def record(self, name: str, value: float, changed: int) -> None:
        """Write down one round."""
        number = sum(step.name == name for step in self.steps) + 1
        self.steps.append(Step(name, number, value, time.perf_counter() - self.began, changed))
        facts = {"objective": value, "changed": changed, "round": len(self.steps)}
        self.progress(Tick("barycenter", self.matches, None, facts))

    def result(self) -> tuple[Tensor, float]:
        """Return the center of the permutations as they stand, and the objective taken from the experts themselves."""
        permutations = self.geometry.permutations
        if self._result is None or not torch.equal(self._result[0], permutations):
            self._result = None  # two centers at once are one too many
            center = self.problem.mean(permutations)
            value = objective(self.problem.experts, permutations, center, weights=self.problem.weights)
            self._result = (permutations.clone(), center, value)
        return self._result[1:]

    def first_center(self, start: int | str) -> int | None:
        """Return the expert that the center begins as, or None for the average."""
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
        costs = torch.zeros(self.problem.count, self.problem.count, dtype=torch.float64)
        for i in range(self.problem.count):
            for j in range(i):
                costs[i, j] = costs[j, i] = self.pair(i, j).cost
        return int((costs @ weights).argmin())


#: A solver leaves its permutations in the run's geometry.
Solver = Callable[[Run], None]
SOLVERS: Registry[Solver] = Registry("solver", "resmoe_lab.transport.solvers")
