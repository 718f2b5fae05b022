"""Entropy-coded experts, or their residuals from a center: decoded when they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from ..._core.threads import map_parallel
from ..encodings import Encoding, TensorSpec
from ..layout import Layout
from ..matrices import CompressedMatrix, LowRankMatrix, SparseMatrix
from ..quantized_matrices import SymbolMatrix
from ..scatter import put_center
from ._base import FORMATS, Format
from ._coded_runs import code_matrix, forecast_bytes, restore_run, shard_run
from ._shards import expert_index, expert_slices, shard_range

#: What the values of such a format are stored as, whatever they would be elsewhere.
CODED = Encoding(kind="coded", bits=8)


@FORMATS.register("coded")
class CodedFormat(Format):
    """The coded bytes of all experts, one expert's after another's; its count is that of its bytes.

    Methods that code choose the step themselves. What others have pruned or factorized is rounded first, see
    :mod:`~resmoe_lab.store.formats._coded_runs`, and coded where that is asked for (``--format coded``): the places of
    the kept values too.
    """

    name = "coded"
    stores = (SymbolMatrix, SparseMatrix, LowRankMatrix)
    kinds = ("coded",)
    multiplies = False
    variable_size = True

    def __init__(self, layout: Layout, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(layout, tensors)
        self.data = nn.Parameter(tensors["data"], requires_grad=False)
        self._slices = expert_slices(self.counts)

    @classmethod
    def adapted(cls, layout: Layout, kind: type[CompressedMatrix]) -> Layout:
        """Count bytes, about as many as there will be; a layout that has them is left as it is."""
        if not layout.encoding.encoder.by_rows:
            return layout
        size = {"rows": layout.neurons, "columns": layout.width}
        counts = tuple(forecast_bytes(kind, count, **size) for count in layout.counts)
        return layout.model_copy(update={"encoding": CODED, "counts": counts})

    @classmethod
    def tensors(cls, layout: Layout) -> dict[str, TensorSpec]:
        """All bytes."""
        return {"data": TensorSpec((sum(layout.counts),), torch.uint8)}

    @classmethod
    def pack(cls, matrices: Iterable[CompressedMatrix], layout: Layout) -> Self:
        """Code each matrix by itself."""
        return cls.of_runs(map_parallel(code_matrix, matrices), layout)

    @classmethod
    def of_runs(cls, runs: Sequence[np.ndarray], layout: Layout) -> Self:
        """Make the module of experts that are coded already, each a run of bytes."""
        layout = layout.model_copy(update={"encoding": CODED, "counts": tuple(len(run) for run in runs)})
        return cls(layout, {"data": torch.from_numpy(np.concatenate(runs))})

    @classmethod
    def multiplications(cls, layout: Layout) -> list[int]:
        """One for each entry of the restored expert."""
        return [layout.neurons * layout.width] * layout.num_stored

    def restore(self, matrix: Tensor, center: Tensor | None, expert: int) -> None:
        """Decode the expert on top of the center, in one pass."""
        if matrix.device.type == "cpu" and matrix.dtype in (torch.float32, torch.bfloat16) and matrix.is_contiguous():
            base = None if center is None else _array(center.to(matrix.dtype))
            restore_run(self._run(expert), _array(matrix), base, where=f"expert {expert}")
            return
        put_center(matrix, center)
        self.add_to(matrix, expert)

    def add_to(self, matrix: Tensor, expert: int) -> None:
        """Decode the expert and add it."""
        values = np.empty(tuple(matrix.shape), np.float32)
        restore_run(self._run(expert), values, None, where=f"expert {expert}")
        matrix.add_(torch.from_numpy(values).to(matrix.device, matrix.dtype))

    def shard_neurons(self, rank: int, world_size: int) -> CodedFormat:
        """Code the symbols of some rows of every expert again."""
        rows, size = shard_range(self.num_neurons, rank, world_size), {"neurons": self.num_neurons, "width": self.width}
        runs = [shard_run(self._run(k), rows, where=f"expert {k}", **size) for k in range(len(self.counts))]
        shard = CodedFormat.of_runs(runs, self.layout.model_copy(update={"neurons": rows.stop - rows.start}))
        return shard.to(self.data.device)

    def shard_experts(self, experts: Sequence[int]) -> CodedFormat:
        """Copy some experts' bytes."""
        layout = self.layout.model_copy(update={"counts": tuple(self.counts[expert] for expert in experts)})
        return CodedFormat(layout, {"data": self.data[expert_index(self.counts, experts)].detach().clone()})

    def _run(self, expert: int) -> np.ndarray:
        return self.data[self._slices[expert]].detach().cpu().numpy()


def _array(tensor: Tensor) -> np.ndarray:
    """A tensor's memory, bfloat16 as 16 bits."""
    tensor = tensor.detach()
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
