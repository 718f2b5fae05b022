"""GPTQ: weights are rounded input by input, and those that are left make up for what was lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..centers import Center, Statistics
from ..experts import ExpertStack
from ..store.groups import affine_range, from_codes, to_codes
from ..store.quantized_matrices import QuantizedBlock
from ._compensation import BLOCK, expert_moments, round_columns
from ._quantizers import QuantizingMethod, round_to_nearest
from ._registry import METHODS


@METHODS.register("gptq", title="GPTQ", reference="arXiv 2210.17323")
class Gptq(QuantizingMethod):
    """Round with error compensation by the second moments that every expert's own tokens have.

    The moments of one layer take 4 N (p^2 + p_I^2) bytes beside its experts, and the inverse of the largest of them
    8 bytes an entry more while it is used. Inputs keep their order.
    """

    needs_statistics = True
    needs_moments = True

    def round_matrix(self, weights: torch.Tensor, bits: int, moments: torch.Tensor | None) -> QuantizedBlock:
        """Compensate, or round to nearest where an expert saw too little text."""
        if moments is None:
            return round_to_nearest(weights, bits, self.group)
        return round_compensated(weights, moments, bits=bits, group=self.group)

    def hints(self, stack: ExpertStack, center: Center | None, statistics: Statistics | None) -> Iterator[Any]:
        """Yield the columns of each weight matrix and the second moments of what it is multiplied with.

        Raises
        ------
        UsageError
            If the statistics lack the moments, or no expert was reached by enough tokens.
        """
        return expert_moments(stack, statistics, method=self.name)


def round_compensated(
    weights: torch.Tensor, moments: torch.Tensor, *, bits: int, group: int, block: int = BLOCK
) -> QuantizedBlock:
    """Round an (outputs, inputs) matrix so that its products with the inputs change little.

    Parameters
    ----------
    weights
        The matrix.
    moments
        (inputs, inputs) E[x x^T], positive semidefinite.
    bits, group
        Of a code, and inputs that share a scale: the scale is taken when their turn comes, from the weights as they
        have become by then.
    block
        Inputs after which what was lost is handed on to all later ones: it changes the time alone.

    References
    ----------
    GPTQ, arXiv 2210.17323, Algorithm 1 (with groups as in section 4.3 and a damping of 1 %).
    """
    codes, scales, zeros = list[torch.Tensor](), list[torch.Tensor](), list[torch.Tensor]()

    def nearest(columns: torch.Tensor) -> torch.Tensor:
        if len(codes) % group == 0:
            scale, zero = affine_range(columns[:, :group], bits)
            scales.append(scale)
            zeros.append(zero)
        scale, zero = scales[-1], zeros[-1]
        codes.append(to_codes(columns[:, :1], scale, zero, bits=bits))
        return from_codes(codes[-1], scale[:, None], zero[:, None], group=1)[:, 0]

    # A group begins with a block, so that the weights after it are at hand.
    round_columns(weights, moments, nearest, block=group * max(1, block // group))
    return QuantizedBlock(torch.cat(codes, dim=1), torch.stack(scales, dim=1), torch.stack(zeros, dim=1), group)
