"""Measuring a low-rank error where it hurts: on the inputs that an expert really sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..experts import Block

#: Added to the second moments, as a share of their mean: directions that no calibration token has stay invertible.
RIDGE = 0.01


@dataclass(frozen=True)
class Whitening:
    """A change of the columns in which Frobenius distance is the mean squared distance of the outputs before W2.

    Parameters
    ----------
    factor, inverse
        (p, p): the Cholesky factor L of the inputs' second moments, L L^T = E[x x^T], and its inverse.
    entering
        Column ranges that inputs are multiplied with: W1 and, where there is a gate, W3.
    scale
        Factor of the other columns, so that their weight is that of an average input column.
    """

    factor: torch.Tensor
    inverse: torch.Tensor
    entering: tuple[tuple[int, int], ...]
    scale: float

    def apply(self, matrix: torch.Tensor) -> torch.Tensor:
        """Whiten the (n, D) rows."""
        return self._columns(matrix, self.factor, self.scale)

    def undo(self, matrix: torch.Tensor) -> torch.Tensor:
        """Undo :meth:`apply`."""
        return self._columns(matrix, self.inverse, 1 / self.scale)

    def _columns(self, matrix: torch.Tensor, factor: torch.Tensor, scale: float) -> torch.Tensor:
        changed = matrix * scale
        for start, stop in self.entering:
            changed[:, start:stop] = matrix[:, start:stop] @ factor
        return changed


def whiten(moments: torch.Tensor, blocks: Sequence[Block], *, like: torch.Tensor) -> Whitening:
    """Make the whitening of a layer from its inputs' second moments.

    Parameters
    ----------
    moments
        (p, p) E[x x^T] over the layer's tokens.
    blocks
        The columns of the design matrix.
    like
        A tensor of the wanted dtype and device.

    References
    ----------
    D2-MoE, arXiv 2502.17298 (truncation-aware SVD of the delta weights), after SVD-LLM.
    """
    moments = moments.double()
    mean = float(moments.diagonal().mean()) or 1.0
    ridge = RIDGE * mean * torch.eye(len(moments), dtype=torch.float64, device=moments.device)
    factor = torch.linalg.cholesky(moments + ridge)
    inverse = torch.linalg.inv(factor)
    entering = tuple((block.start, block.stop) for block in blocks if block.name in ("w1", "w3"))
    return Whitening(factor.to(like), inverse.to(like), entering, ((1 + RIDGE) * mean) ** 0.5)
