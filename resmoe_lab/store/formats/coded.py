"""Entropy-coded experts, or their residuals from a center: decoded when they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from ..._core.threads import map_parallel
from ..coder import CodedMatrix, decode_into, encode
from ..encodings import TensorSpec
from ..layout import Layout
from ..matrices import CompressedMatrix, SymbolMatrix
from ..scatter import put_center
from ._base import FORMATS, Format
from ._shards import expert_index, expert_slices, shard_range


@FORMATS.register("coded")
class CodedFormat(Format):
    """The coded bytes of all experts, one expert's after another's; its count is that of its bytes."""

    name = "coded"
    stores = (SymbolMatrix,)
    multiplies = False

    def __init__(self, layout: Layout, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(layout, tensors)
        self.data = nn.Parameter(tensors["data"], requires_grad=False)
        self._slices = expert_slices(self.counts)

    @classmethod
    def fits(cls, layout: Layout) -> bool:
        """Whether the values are to be coded."""
        return not layout.encoding.encoder.by_rows

    @classmethod
    def tensors(cls, layout: Layout) -> dict[str, TensorSpec]:
        """All bytes."""
        return {"data": TensorSpec((sum(layout.counts),), torch.uint8)}

    @classmethod
    def pack(cls, matrices: Iterable[CompressedMatrix], layout: Layout) -> Self:
        """Code each matrix by itself."""

        def coded(matrix: CompressedMatrix) -> np.ndarray:
            assert isinstance(matrix, SymbolMatrix)
            return encode(matrix.quantized)

        return cls.of_runs(map_parallel(coded, matrices), layout)

    @classmethod
    def of_runs(cls, runs: Sequence[np.ndarray], layout: Layout) -> Self:
        """Make the module of experts that are coded already, each a run of bytes."""
        layout = layout.model_copy(update={"counts": tuple(len(run) for run in runs)})
        return cls(layout, {"data": torch.from_numpy(np.concatenate(runs))})

    @classmethod
    def multiplications(cls, layout: Layout) -> list[int]:
        """One for each entry of the restored expert."""
        return [layout.neurons * layout.width] * layout.num_stored

    def restore(self, matrix: Tensor, center: Tensor | None, expert: int) -> None:
        """Decode the expert on top of the center, in one pass."""
        coded, where = self.coded_expert(expert), f"expert {expert}"
        if matrix.device.type == "cpu" and matrix.dtype in (torch.float32, torch.bfloat16) and matrix.is_contiguous():
            decode_into(coded, _array(matrix), None if center is None else _array(center.to(matrix.dtype)), where=where)
            return
        put_center(matrix, center)
        self._add(coded, matrix, where)

    def add_to(self, matrix: Tensor, expert: int) -> None:
        """Decode the expert and add it."""
        self._add(self.coded_expert(expert), matrix, f"expert {expert}")

    def coded_expert(self, expert: int) -> CodedMatrix:
        """Return the checked header and the streams of one expert.

        Raises
        ------
        CheckpointError
            If its bytes are damaged.
        """
        data = self.data[self._slices[expert]].detach().cpu().numpy()
        return CodedMatrix.read(data, shape=(self.num_neurons, self.width), where=f"expert {expert}")

    def shard_neurons(self, rank: int, world_size: int) -> CodedFormat:
        """Code the symbols of some rows of every expert again."""
        rows = shard_range(self.num_neurons, rank, world_size)
        parts = (self.coded_expert(k).symbols(where=f"expert {k}").take(rows) for k in range(len(self.counts)))
        layout = self.layout.model_copy(update={"neurons": rows.stop - rows.start})
        shard = CodedFormat.pack(map(SymbolMatrix, parts), layout)
        return shard.to(self.data.device)

    def shard_experts(self, experts: Sequence[int]) -> CodedFormat:
        """Copy some experts' bytes."""
        layout = self.layout.model_copy(update={"counts": tuple(self.counts[expert] for expert in experts)})
        return CodedFormat(layout, {"data": self.data[expert_index(self.counts, experts)].detach().clone()})

    @staticmethod
    def _add(coded: CodedMatrix, matrix: Tensor, where: str) -> None:
        values = np.empty((coded.rows, coded.columns), np.float32)
        decode_into(coded, values, None, where=where)
        matrix.add_(torch.from_numpy(values).to(matrix.device, matrix.dtype))


def _array(tensor: Tensor) -> np.ndarray:
    """A tensor's memory, bfloat16 as 16 bits."""
    tensor = tensor.detach()
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
