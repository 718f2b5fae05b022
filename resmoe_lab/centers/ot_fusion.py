"""OT Fusion's center: one layer of the experts after the other."""

from __future__ import annotations

import time
from typing import Any

import torch

from .._core.progress import Progress, silent
from ..experts import ExpertStack
from ..transport import barycenter
from ._base import CENTERS, Center, CenterMethod
from ._statistics import Statistics


@CENTERS.register("ot-fusion")
class OTFusion(CenterMethod):
    """Find the barycenter of the first layers, pre-align the second layers with its permutations, and find theirs.

    The neurons follow W1 (with b1 and, where the expert is gated, W3 and b3) alone; W2 then has a barycenter of its
    own, whose points are the outputs, so every expert also keeps an order of its outputs.

    Parameters
    ----------
    seed
        For solvers that draw an order or a start.
    solver
        As for :func:`resmoe_lab.transport.barycenter`.
    options
        Passed on to it.

    References
    ----------
    ResMoE, appendix B.2, after Model Fusion via Optimal Transport, algorithm 1.
    """

    name = "ot-fusion"
    permutes_outputs = True

    def __init__(self, *, seed: int = 0, solver: str = "alternating", **options: Any) -> None:
        super().__init__(seed=seed)
        self.solver, self.options = solver, options

    def find(self, stack: ExpertStack, *, statistics: Statistics | None = None, progress: Progress = silent) -> Center:
        """Align and average one layer of the experts after the other."""
        begun = time.perf_counter()
        options = {
            **self.options,
            "solver": self.solver,
            "seed": self.seed,
            "progress": progress,
            "certify": False,
        }
        w2 = next(block for block in stack.blocks if block.name == "w2")
        first = barycenter(stack.weights[:, :, : w2.start], **options)
        pairs = zip(stack.block("w2"), first.permutations, strict=True)
        aligned = [rows[order.to(rows.device)].T.contiguous() for rows, order in pairs]
        second = barycenter(aligned, **options)
        moved = not torch.equal(second.permutations, torch.arange(len(aligned[0])).expand_as(second.permutations))
        return Center(
            name=self.name,
            matrix=torch.cat([first.center, second.center.T], dim=1).to(stack.weights.dtype),
            permutations=first.permutations,
            objective=first.objective + second.objective,
            solver=self.solver,
            history=(*first.history, *second.history),
            iterations=first.iterations + second.iterations,
            seconds=time.perf_counter() - begun,
            certificate=None,
            outputs=second.permutations.argsort(dim=1) if moved else None,
        )
