"""Experts, or residuals, in four-bit floats with scales of eight bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from ..encodings import Encoded, Encoding, TensorSpec
from ..layout import Layout
from ..matrices import CompressedMatrix
from ..quantized_matrices import MicroscaledMatrix
from ._base import FORMATS
from ._matrices import MatricesFormat


@FORMATS.register("microscaled")
class MicroscaledFormat(MatricesFormat):
    """Codes and the scales of their groups; and, where there is one for a whole matrix, ``tensor.scale`` (N, B)."""

    name = "microscaled"
    stores = (MicroscaledMatrix,)
    kinds = ("mxfp4", "nvfp4")

    def __init__(self, layout: Layout, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(layout, tensors)
        self.tensor: nn.ParameterDict | None = None
        if "tensor.scale" in tensors:
            scale = nn.Parameter(tensors["tensor.scale"], requires_grad=False)
            self.tensor = nn.ParameterDict({"scale": scale})

    @classmethod
    def tensors(cls, layout: Layout) -> dict[str, TensorSpec]:
        """Codes and scales of each matrix."""
        specs = super().tensors(layout)
        if layout.encoding.kind == "nvfp4":
            specs["tensor.scale"] = TensorSpec((layout.num_stored, len(layout.blocks)), torch.float32)
        return specs

    @classmethod
    def encode(cls, matrix: CompressedMatrix, encoding: Encoding) -> list[Encoded]:
        """The matrix is encoded already."""
        assert isinstance(matrix, MicroscaledMatrix)
        return list(matrix.parts)

    @classmethod
    def pack(cls, matrices: Iterable[CompressedMatrix], layout: Layout) -> Self:
        """Put the codes of each matrix, and what the matrix is scaled by, below one another."""
        factors = list[Tensor]()

        def seen() -> Iterable[CompressedMatrix]:
            for matrix in matrices:
                assert isinstance(matrix, MicroscaledMatrix)
                factors.append(torch.stack(matrix.factors))
                yield matrix

        packed = super().pack(seen(), layout)
        tensors = {name: tensor.detach() for name, tensor in packed.state_dict().items()}
        if layout.encoding.kind == "nvfp4":
            tensors["tensor.scale"] = torch.stack(factors)
        return cls(packed.layout, tensors)

    def read(self, expert: int, block: int, dtype: torch.dtype) -> Tensor:
        """Return the values of a weight matrix."""
        values = super().read(expert, block, torch.float32)
        return (values if self.tensor is None else values * self.tensor["scale"][expert, block]).to(dtype)

    def shard_neurons(self, rank: int, world_size: int) -> Self:
        """Copy some neurons; what a matrix is scaled by stays."""
        return self._with_tensor(super().shard_neurons(rank, world_size), list(range(self.layout.num_stored)))

    def shard_experts(self, experts: Sequence[int]) -> Self:
        """Copy some experts."""
        return self._with_tensor(super().shard_experts(experts), experts)

    def _with_tensor(self, shard: Self, experts: Sequence[int]) -> Self:
        if self.tensor is not None:
            scale = self.tensor["scale"][list(experts)].detach().clone()
            shard.tensor = nn.ParameterDict({"scale": nn.Parameter(scale, requires_grad=False)})
        return shard
