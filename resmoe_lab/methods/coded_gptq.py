"""Coded weights with error compensation: what rounding has lost is made up for by the weights that are left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..centers import Statistics
from ..experts import ExpertStack
from ..store.coder import QuantizedValues, quantize
from ._coded import CodingMethod
from ._coding import CodingPlan
from ._compensation import expert_moments, round_columns
from ._registry import METHODS

#: Magnitude, in steps, below which a weight becomes zero: less than for weights by themselves, whose bits count alone.
DEAD_ZONE = 0.55


@METHODS.register("coded-gptq", title="Coded (GPTQ)", reference="GPTQ, arXiv 2210.17323, on coded weights")
@METHODS.register(
    "resmoe-coded-gptq",
    title="ResMoE (coded, GPTQ)",
    reference="GPTQ, arXiv 2210.17323, on coded residuals",
    uses_center=True,
)
class CompensatedCoding(CodingMethod):
    """Round input by input to multiples of the step, and let the inputs that are left make up for what was lost.

    An expert that few calibration tokens reach is rounded by itself, and a warning names it.
    """

    needs_statistics = True
    needs_moments = True

    def hints(self, stack: ExpertStack, statistics: Statistics | None) -> Iterator[Any]:
        """Yield the columns of each weight matrix and the second moments of what it is multiplied with."""
        return expert_moments(stack, statistics, method=self.name)

    def aligned_hint(self, hint: Any, order: torch.Tensor) -> Any:
        """Put the second moments of the neurons into the order of the residual's rows."""
        widths, (*entering, neurons) = hint
        if neurons is None:
            return hint
        order = order.to(neurons.device)
        return widths, (*entering, neurons[order][:, order])

    def round_matrix(self, matrix: torch.Tensor, plan: CodingPlan, hint: Any) -> QuantizedValues:
        """Compensate, and round what has become multiples of the step to exactly those."""
        widths, moments = hint
        if moments[0] is None:
            return super().round_matrix(matrix, plan, hint)
        parts = list[torch.Tensor]()
        for part, seen, step in zip(matrix.float().split(list(widths), dim=1), moments, plan.steps, strict=True):
            leaving = len(parts) == len(widths) - 1
            weights = part.T.contiguous() if leaving else part

            def multiple(columns: torch.Tensor, step: float = step) -> torch.Tensor:
                size = (columns[:, 0].abs() / step + 1 - DEAD_ZONE).floor_()
                return size.mul_(step).copysign_(columns[:, 0])

            rounded = round_columns(weights, seen, multiple)
            parts.append(rounded.T if leaving else rounded)
        return quantize(torch.cat(parts, dim=1).cpu().numpy(), plan.stops, plan.steps, bit_price=0.0)
