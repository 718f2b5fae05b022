"""What the centers that are Wasserstein barycenters share: the search, its options and its forecast."""

from __future__ import annotations

from typing import Any

import torch

from .._core.errors import UsageError
from .._core.progress import Progress, silent
from ..experts import ExpertStack, LayerShape
from ..transport import SearchConfig, barycenter, objective, plan_search
from ..transport.run import SOLVERS
from ._base import CENTERS, Center, CenterMethod
from ._statistics import Statistics


class BarycenterMethod(CenterMethod):
    """The Wasserstein barycenter of the experts' neurons, of equal or of weighted experts.

    Parameters
    ----------
    seed
        For solvers that draw an order or a start.
    solver
        ``"coordinate"`` (default), ``"alternating"`` for the paper's result, ``"pot"`` for the published call.
    mode
        Whether products are kept: ``"direct"``, ``"gram"`` or ``"auto"``.
    start, memory, max_iterations, tolerance, restarts, random_order, certify, sample_pairs
        As for :func:`resmoe_lab.transport.barycenter`; its defaults where they are not given.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        solver: str = "coordinate",
        mode: str = "auto",
        start: int | str | None = None,
        memory: int | None = None,
        max_iterations: int | None = None,
        tolerance: float | None = None,
        restarts: int | None = None,
        random_order: bool | None = None,
        certify: bool | None = None,
        sample_pairs: int | None = None,
    ) -> None:
        super().__init__(seed=seed)
        SOLVERS[solver]
        if mode not in ("auto", "direct", "gram"):
            raise UsageError(f"mode is {mode!r}, expected 'auto', 'direct' or 'gram'")
        self.solver, self.mode = solver, mode
        limits = {"start": start, "memory": memory, "max_iterations": max_iterations, "tolerance": tolerance}
        draws = {"restarts": restarts, "random_order": random_order}
        proof = {"certify": certify, "sample_pairs": sample_pairs}
        options = {**limits, **draws, **proof}
        self.options: dict[str, Any] = {name: value for name, value in options.items() if value is not None}

    def weights(self, statistics: Statistics | None) -> torch.Tensor | None:
        """Return the (N,) importance of the experts; None: they count alike."""
        return None

    def find(self, stack: ExpertStack, *, statistics: Statistics | None = None, progress: Progress = silent) -> Center:
        """Search the barycenter and certify it; for weighted experts the objective is that of equal weights.

        The certificate would bound the weighted objective, so weighted experts have none.
        """
        weights = self.weights(statistics)
        options = self.options if weights is None else {**self.options, "certify": False}
        result = barycenter(
            stack.weights,
            weights=weights,
            solver=self.solver,
            mode=self.mode,
            seed=self.seed,
            progress=progress,
            **options,
        )
        equal = weights is None
        value = result.objective if equal else objective(stack.weights, result.permutations, result.center)
        return Center(
            name=self.name,
            matrix=result.center,
            permutations=result.permutations,
            objective=value,
            solver=result.solver,
            history=result.history,
            iterations=result.iterations,
            seconds=result.seconds,
            certificate=result.certificate,
        )

    def search(self, shape: LayerShape, *, near_duplicates: bool) -> SearchConfig:
        """Forecast the search."""
        return plan_search(*shape.sizes, near_duplicates=near_duplicates, mode=self.mode, solver=self.solver)

    def like_whole(self, shape: LayerShape, *, near_duplicates: bool) -> CenterMethod:
        """Choose the mode for the whole layer: a small one would be searched in another way."""
        mode = self.search(shape, near_duplicates=near_duplicates).mode
        return type(self)(seed=self.seed, solver=self.solver, mode=mode, **self.options)

    def cheaper(self) -> list[tuple[str, CenterMethod]]:
        """Compute products as they are needed, choose a solver with less in memory, or do not search at all."""
        direct = type(self)(seed=self.seed, solver=self.solver, mode="direct", **self.options)
        coordinate = type(self)(seed=self.seed, solver="coordinate", mode="direct", **self.options)
        return [
            ("--mode direct", direct),
            ("--mode direct --solver coordinate", coordinate),
            ("--center average", CENTERS["average"](seed=self.seed)),
        ]
