"""Congruent potentials: their weighted sum is zero all_points."""

from __future__ import annotations

import torch
from torch import Tensor

from ..networks import StackedMLP


class CongruentPotentials(StackedMLP):
    """f_k = g_k - sum_j lambda_j g_j for N networks g.

    Parameters
    ----------
    weights
        (N,) lambda.
    dimension, widths
        Input dimension and hidden widths of the networks.
    quadratic
        Whether a quadratic form is added to each network.

    References
    ----------
    Section 4.3 of Kolesov et al. (2024).
    """

    def __init__(self, weights: Tensor, dimension: int, widths: list[int], *, quadratic: bool = True) -> None:
        super().__init__(len(weights), [dimension, *widths, 1], quadratic=quadratic)
        self.register_buffer("shares", weights)

    def forward(self, points: Tensor) -> Tensor:
        """Evaluate every f_k at its (N, M, D) points: (N, M)."""
        count, size, width = points.shape
        all_points = points.reshape(1, count * size, width).expand(count, -1, -1)
        values = super().forward(all_points).view(count, count, size)
        diagonal = values[torch.arange(count), torch.arange(count)]
        return diagonal - torch.einsum("j,jkm->km", self.shares, values)
