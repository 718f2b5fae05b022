"""Potentials that are congruent: their weighted sum is zero everywhere."""

from __future__ import annotations

import torch
from torch import Tensor

from ..networks import StackedMLP


class Congruent(StackedMLP):
    """f_k = g_k - sum_j lambda_j g_j for N networks g.

    Parameters
    ----------
    weights
        (N,) lambda.
    dimension, widths
        Of the networks.
    quadratic
        Whether a quadratic form is added to each.

    References
    ----------
    Section 4.3 of Kolesov et al. (2024).
    """

    def __init__(self, weights: Tensor, dimension: int, widths: list[int], *, quadratic: bool = True) -> None:
        super().__init__(len(weights), [dimension, *widths, 1], quadratic=quadratic)
        self.register_buffer("shares", weights)

    def forward(self, points: Tensor) -> Tensor:
        """Evaluate f_k at its own (N, M, D) points: (N, M)."""
        count, size, width = points.shape
        everywhere = points.reshape(1, count * size, width).expand(count, -1, -1)
        values = super().forward(everywhere).view(count, count, size)
        own = values[torch.arange(count), torch.arange(count)]
        return own - torch.einsum("j,jkm->km", self.shares, values)
