"""Packed experts over several processes: each holds some of the neurons, or some of the experts.

Either way a process computes its share of the output from all tokens, and one sum over the processes completes it.
The neurons of an expert add up, so a split along p_I is exact whatever the form; so is one along the experts.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .._core.errors import UsageError
from ..store.encodings import Encoded
from ..store.formats import Format, shard_range
from .experts import ResMoEExperts

Split = Literal["neurons", "experts"]


class ParallelExperts(nn.Module):
    """One process's share of a packed block, with the block's own signature.

    Parameters
    ----------
    experts
        The share, as :func:`shard_neurons` or :func:`shard_experts` returns it.
    first
        Number of the first expert of the share; other experts are other processes' work.
    group
        The processes; all of them if not given.

    References
    ----------
    ResMoE, appendix B.1.
    """

    def __init__(self, experts: ResMoEExperts, *, first: int = 0, group: dist.ProcessGroup | None = None) -> None:
        super().__init__()
        self.experts = experts
        self.first = first
        self.group = group

    def forward(self, hidden: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Compute the share of this process and add up those of all; every process must call it.

        Parameters are those of :meth:`ResMoEExperts.forward`, the same in every process.
        """
        count = self.experts.layout.num_experts
        index = top_k_index - self.first
        index = torch.where((index >= 0) & (index < count), index, count)
        output: Tensor = self.experts(hidden, index, top_k_weights)
        dist.all_reduce(output, group=self.group)
        return output


def parallelize(model: nn.Module, split: Split, *, group: dist.ProcessGroup | None = None) -> nn.Module:
    """Leave a loaded model's packed experts only this process's share, in place.

    Parameters
    ----------
    model
        The same in every process, such as :func:`~.loading.load` returns it; its tensors are mapped files, so that
        only the share takes memory of its own.
    split
        ``"neurons"``: every process holds a part of each expert's p_I neurons, and of the center's (tensor
        parallelism; the right factors of low-rank residuals are held by all). ``"experts"``: every process holds the
        residuals of some experts, and the whole center (expert parallelism).
    group
        The processes; all of them if not given.

    Raises
    ------
    UsageError
        If there is nothing to split, or less than there are processes.
    """
    rank, world_size = dist.get_rank(group), dist.get_world_size(group)
    blocks = {name: module for name, module in model.named_modules() if isinstance(module, ResMoEExperts)}
    if not blocks:
        raise UsageError(
            f"{type(model).__name__} has no packed experts, expected a packed checkpoint: compress it first"
        )
    for name, block in blocks.items():
        if split == "neurons":
            shared = ParallelExperts(shard_neurons(block, rank, world_size), group=group)
        else:
            experts = shard_experts(block, rank, world_size)
            shared = ParallelExperts(
                experts, first=shard_range(block.layout.num_experts, rank, world_size).start, group=group
            )
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, shared)
    return model


def shard_neurons(block: ResMoEExperts, rank: int, world_size: int) -> ResMoEExperts:
    """Return a block with only some of each expert's neurons; the outputs of all shares add up to its own."""
    center, layout = block.stored_center(), block.layout
    if center is not None:
        neurons = shard_range(layout.neurons, rank, world_size)
        center = center.encoding.encoder.shard_center(
            center.encoding, center.parts, neurons, shape=(layout.neurons, layout.width), blocks=len(layout.blocks)
        )
    return _like(block, center, block.residual.shard_neurons(rank, world_size))


def shard_experts(block: ResMoEExperts, rank: int, world_size: int) -> ResMoEExperts:
    """Return a block with only some of the router's experts; it knows them by their place in the share."""
    routed = shard_range(block.layout.num_experts, rank, world_size)
    groups = range(block.num_experts) if block.groups is None else block.groups
    stored = sorted(set(groups[routed]))
    center = block.stored_center()
    if center is not None:
        parts = {name: part.detach().clone() for name, part in center.parts.items()}
        center = Encoded(center.encoding, parts, center.columns)
    shard = block.residual.shard_experts(stored)
    if block.groups is not None:
        numbers = tuple(stored.index(group) for group in groups[routed])
        shard.layout = shard.layout.model_copy(update={"groups": numbers})
    return _like(block, center, shard)


def _like(block: ResMoEExperts, center: Encoded | None, stored: Format) -> ResMoEExperts:
    """A block that computes as another one does."""
    return ResMoEExperts(
        center,
        stored,
        activation=block.activation,
        dtype=block.dtype,
        mode=block.mode,
        cache_experts=block.cache_experts,
    )
