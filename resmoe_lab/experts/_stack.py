"""The experts of one layer as design matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from .._core.errors import WeightError

#: Neurons that are converted to float64 at a time.
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
        Number of columns of each weight matrix in the design matrix, including its bias.
    """

    num_experts: int
    intermediate_size: int
    widths: tuple[int, ...]

    @classmethod
    def of(cls, num_experts: int, intermediate_size: int, blocks: Sequence[Block]) -> LayerShape:
        """Return the shape of experts with these column blocks, in which a bias follows its matrix."""
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
    """The N design matrices of one layer: rows are neurons, columns are [W1, b1, W3, b3, W2^T], as far as they exist.

    Parameters
    ----------
    weights
        (N, p_I, D) float tensor, float32 by default.
    blocks
        The names and ranges of the column blocks.
    layer
        The layer's index in its model.

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
        block = next(block for block in self.blocks if block.name == name)
        return self.weights[:, :, block.start : block.stop]

    def with_weights(self, weights: torch.Tensor) -> ExpertStack:
        """Return a stack of other weights with the same columns."""
        return replace(self, weights=weights)

    def mean_squared_norm(self) -> float:
        """Return (1/N) sum_k ||W_k||_F^2 in float64, the denominator of relative errors."""
        # A buffer of a few neurons is reused: the layer in float64 would be the largest tensor in memory.
        rows = self.weights.flatten(0, 1)
        buffer = torch.empty(_ROWS, rows.shape[1], dtype=torch.float64, device=rows.device)
        parts = (buffer[: len(piece)].copy_(piece).flatten() for piece in rows.split(_ROWS))
        return sum(float(piece @ piece) for piece in parts) / self.num_experts

    def checked(self) -> ExpertStack:
        """Return the stack itself, after checking that every weight is finite.

        Raises
        ------
        WeightError
            If an expert holds NaN or infinity, naming the first such expert.
        """
        for expert, weights in enumerate(self.weights):
            # The minimum and maximum are NaN if any weight is, and take no copy of the weights.
            if not torch.isfinite(torch.stack(weights.aminmax())).all():
                raise WeightError(
                    f"layer {self.layer}, expert {expert} holds NaN or infinite weights, expected finite ones: "
                    "the checkpoint is damaged, fetch it again"
                )
        return self
