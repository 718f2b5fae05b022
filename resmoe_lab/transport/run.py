"""What every solver is handed: the problem, its options, and the record of its rounds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from .._core.errors import UsageError
from .._core.progress import Progress, Tick, silent
from .._core.registry import Registry
from .assignment import Assignment, assign
from .cost import objective
from .problem import Problem
from .result import Step


@dataclass
class Run:
    """One search: what it works on, what it may do, and what it has done so far."""

    problem: Problem
    start: int | str = 0
    seed: int = 0
    max_iterations: int = 100
    progress: Progress = silent
    steps: list[Step] = field(default_factory=list)
    assignments: int = 0
    began: float = field(default_factory=time.perf_counter)

    def start_center(self) -> Tensor:
        """Return the first center, (p_I, D) float32."""
        if self.start == "average":
            return self.problem.mean(self.problem.identity())
        if isinstance(self.start, int) and 0 <= self.start < self.problem.count:
            return self.problem.expert(self.start)
        raise UsageError(
            f"start is {self.start!r}, expected an expert from 0 to {self.problem.count - 1}, 'medoid' or 'average'"
        )

    def assign(self, cost: Tensor) -> Assignment:
        """Solve one assignment; the only moment between two of them, so work can be cancelled here."""
        matched = assign(cost)
        self.assignments += 1
        facts = {"objective": self.steps[-1].objective} if self.steps else {}
        self.progress(Tick("barycenter", self.assignments, None, facts))
        return matched

    def record(self, name: str, permutations: Tensor, changed: int) -> None:
        """Write down one round and its objective."""
        value = objective(
            self.problem.experts, permutations, self.problem.mean(permutations), weights=self.problem.weights
        )
        number = sum(step.name == name for step in self.steps) + 1
        self.steps.append(Step(name, number, value, time.perf_counter() - self.began, changed))


Solver = Callable[[Run], Tensor]
SOLVERS: Registry[Solver] = Registry("solver", "resmoe_lab.transport.solvers")
