"""Round to nearest: every weight by itself, the step of a group from its minimum to its maximum."""

from __future__ import annotations

import torch

from ..store.quantized_matrices import QuantizedBlock
from ._quantizers import QuantizingMethod, round_to_nearest
from ._registry import METHODS


@METHODS.register("rtn", title="RTN", reference="round to nearest, asymmetric, in groups")
@METHODS.register("resmoe-rtn", title="ResMoE (RTN)", reference="RTN of the residuals from a center", uses_center=True)
class RoundToNearest(QuantizingMethod):
    """Round every weight to the nearest step."""

    def round_matrix(self, weights: torch.Tensor, bits: int, moments: torch.Tensor | None) -> QuantizedBlock:
        """Round a matrix."""
        return round_to_nearest(weights, bits, self.group)
