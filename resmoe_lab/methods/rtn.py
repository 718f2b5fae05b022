"""Round to nearest: every weight by itself, the step of a group from its minimum to its maximum."""

from __future__ import annotations

import torch

from ..store.groups import affine_range, join_groups, split_groups, to_codes
from ..store.matrices import QuantizedBlock
from ._base import METHODS
from ._quantizers import QuantizingMethod


@METHODS.register("rtn", title="RTN", reference="round to nearest, asymmetric, in groups")
@METHODS.register("resmoe-rtn", title="ResMoE (RTN)", reference="RTN of the residuals from a center", uses_center=True)
class RoundToNearest(QuantizingMethod):
    """Round every weight to the nearest step."""

    def round_matrix(self, weights: torch.Tensor, bits: int, moments: torch.Tensor | None) -> QuantizedBlock:
        """Round a matrix."""
        return round_to_nearest(weights, bits, self.group)


def round_to_nearest(weights: torch.Tensor, bits: int, group: int) -> QuantizedBlock:
    """Round an (outputs, inputs) matrix to `bits`, each `group` of a row between its own minimum and maximum.

    Examples
    --------
    >>> round_to_nearest(torch.tensor([[-1.0, 0.0, 0.9, 2.0]]), 2, 4).restore()
    tensor([[-1.,  0.,  1.,  2.]])
    """
    groups = split_groups(weights, group)
    scale, zero = affine_range(groups, bits)
    codes = to_codes(groups, scale, zero, bits=bits)
    return QuantizedBlock(join_groups(codes, weights.shape[1]), scale, zero, group)
