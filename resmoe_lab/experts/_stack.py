"""The experts of one layer as clouds of neurons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from .._core.errors import WeightError

#: Neurons that are turned into float64 at once.
_ROWS = 32


@dataclass(frozen=True)
class Block:
    """A named range of columns of the design matrix, such as ``w1``."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class LayerShape:
    """The sizes of a layer's experts.

    Parameters
    ----------
    num_experts
        N.
    intermediate_size
        p_I.
    widths
        Columns that each weight matrix has in the design matrix, those of its bias included.
    """

    num_experts: int
    intermediate_size: int
    widths: tuple[int, ...]

    @classmethod
    def of(cls, num_experts: int, intermediate_size: int, blocks: Sequence[Block]) -> LayerShape:
        """The shape of experts with such column blocks; a bias stands behind its matrix."""
        starts = [block.start for block in blocks if block.name.startswith("w")]
        stops = [*starts[1:], blocks[-1].stop]
        return cls(num_experts, intermediate_size, tuple(b - a for a, b in zip(starts, stops, strict=True)))

    @property
    def width(self) -> int:
        """D, the number of columns of a design matrix."""
        return sum(self.widths)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(N, p_I, D)."""
        return self.num_experts, self.intermediate_size, self.width


@dataclass(frozen=True)
class ExpertStack:
    """The N design matrices of one layer: rows are neurons, columns are [W1, b1, W3, b3, W2^T] as far as they exist.

    Parameters
    ----------
    weights
        (N, p_I, D) float tensor, float32 unless asked for otherwise.
    blocks
        What the columns are.
    layer
        The layer's number in its model.

    References
    ----------
    ResMoE, appendix B.3 (the extended matrix W_k) and equation (4).
    """

    weights: torch.Tensor
    blocks: tuple[Block, ...]
    layer: int

    @property
    def num_experts(self) -> int:
        """N, the number of experts."""
        return self.weights.shape[0]

    @property
    def intermediate_size(self) -> int:
        """p_I, the number of neurons of an expert."""
        return self.weights.shape[1]

    @property
    def width(self) -> int:
        """D, the number of columns of a design matrix."""
        return self.weights.shape[2]

    @property
    def shape(self) -> LayerShape:
        """The sizes alone."""
        return LayerShape.of(self.num_experts, self.intermediate_size, self.blocks)

    def block(self, name: str) -> torch.Tensor:
        """Return the (N, p_I, width) view of one column block; rows are neurons."""
        found = next(block for block in self.blocks if block.name == name)
        return self.weights[:, :, found.start : found.stop]

    def with_weights(self, weights: torch.Tensor) -> ExpertStack:
        """Return a stack of other weights with the same columns."""
        return replace(self, weights=weights)

    def mean_squared_norm(self) -> float:
        """(1/N) sum_k ||W_k||_F^2 in float64: what relative errors are relative to."""
        # One buffer for a few neurons: the whole layer in float64 would be the largest thing in memory.
        rows = self.weights.flatten(0, 1)
        buffer = torch.empty(_ROWS, rows.shape[1], dtype=torch.float64, device=rows.device)
        pieces = (buffer[: len(piece)].copy_(piece).flatten() for piece in rows.split(_ROWS))
        return sum(float(piece @ piece) for piece in pieces) / self.num_experts

    def checked(self) -> ExpertStack:
        """Return the stack itself if every weight is finite.

        Raises
        ------
        WeightError
            If an expert holds NaN or infinity, naming the first such expert.
        """
        for expert, weights in enumerate(self.weights):
            # The extremes are NaN where any weight is, and need no copy of the weights.
            if not torch.isfinite(torch.stack(weights.aminmax())).all():
                raise WeightError(
                    f"layer {self.layer}, expert {expert} holds NaN or infinite weights, expected finite ones: "
                    "the checkpoint is damaged, fetch it again"
                )
        return self
