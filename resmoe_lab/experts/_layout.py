"""The layout of an expert's matrices in tensors, on disk and in running models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .._core.errors import CheckpointError
from ._stack import Block


@dataclass(frozen=True)
class Shape:
    """The sizes of a model's MoE layers.

    Parameters
    ----------
    num_experts, hidden_size, intermediate_size, top_k
        N, p, p_I and experts per token.
    """

    num_experts: int
    hidden_size: int
    intermediate_size: int
    top_k: int


def config_int(config: Mapping[str, Any], *keys: str) -> int:
    """Return a positive integer of a config, by the first of `keys` that it has.

    Raises
    ------
    CheckpointError
        If the config has none of them, or the value is not a positive integer.
    """
    key = next((key for key in keys if key in config), keys[0])
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise CheckpointError(f"config.json has {key} = {value!r}, expected a positive whole number")
    return value


@dataclass(frozen=True)
class Part:
    """One block of the design matrix, and where it is stored.

    Parameters
    ----------
    block
        Its name in the design matrix.
    key
        Name of its tensor, with ``{k}`` for the expert; without it, the tensor's first axis is the expert.
    transposed
        Whether columns, not rows, are neurons (as in most down-projections).
    half
        0 or 1 if the tensor holds two blocks (gate and up) along its neurons; None if it holds one.
    interleaved
        Whether these two alternate neuron by neuron instead of following one another.
    vector
        Whether it is a bias: one number for each neuron.
    """

    block: str
    key: str
    transposed: bool = False
    half: int | None = None
    interleaved: bool = False
    vector: bool = False

    @property
    def fused(self) -> bool:
        """Whether one tensor holds all experts."""
        return "{k}" not in self.key

    def columns(self, hidden_size: int) -> int:
        """Return the number of columns of the design matrix that the part fills."""
        return 1 if self.vector else hidden_size

    def stored_shape(self, shape: Shape) -> tuple[int, ...]:
        """Return the shape of the stored tensor."""
        neurons = shape.intermediate_size * (1 if self.half is None else 2)
        sides = (neurons,) if self.vector else (neurons, shape.hidden_size)
        sides = sides[::-1] if self.transposed else sides
        return (shape.num_experts, *sides) if self.fused else sides

    def view(self, tensor: torch.Tensor, expert: int) -> torch.Tensor:
        """Return the (p_I, columns) view of one expert's block in its stored tensor: rows are neurons."""
        return self.matrix(tensor[expert] if self.fused else tensor)

    def matrix(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return the (p_I, columns) view of the block in the stored matrix, or vector, of one expert."""
        matrix = matrix[:, None] if self.vector else matrix
        matrix = matrix.T if self.transposed else matrix
        if self.half is None:
            return matrix
        return matrix[self.half :: 2] if self.interleaved else matrix.chunk(2)[self.half]


def copy_block(target: torch.Tensor, source: torch.Tensor) -> None:
    """Copy one matrix into another, converting dtype and device.

    A transposed matrix is made contiguous in its own dtype first, which is several times faster than converting and
    transposing at once.
    """
    if _is_transposed(source):
        source = source.contiguous()
    if _is_transposed(target):
        target, source = target.T, source.to(target.dtype).T.contiguous()
    target.copy_(source)


def _is_transposed(matrix: torch.Tensor) -> bool:
    return matrix.stride(0) < matrix.stride(1)


#: How most families store a gated expert: one tensor for each matrix.
GATED_PARTS = (
    Part("w1", "experts.{k}.gate_proj.weight"),
    Part("w3", "experts.{k}.up_proj.weight"),
    Part("w2", "experts.{k}.down_proj.weight", transposed=True),
)
#: How transformers 5 holds gated experts in memory: ``gate_up_proj`` (N, 2 p_I, p) and ``down_proj`` (N, p, p_I).
FUSED_PARTS = (
    Part("w1", "gate_up_proj", half=0),
    Part("w3", "gate_up_proj", half=1),
    Part("w2", "down_proj", transposed=True),
)


def blocks_of(parts: Sequence[Part], hidden_size: int) -> tuple[Block, ...]:
    """Return the column ranges of the design matrix that the parts fill, side by side."""
    blocks: list[Block] = []
    for part in parts:
        start = blocks[-1].stop if blocks else 0
        blocks.append(Block(part.block, start, start + part.columns(hidden_size)))
    return tuple(blocks)
