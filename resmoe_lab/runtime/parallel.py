"""Packed experts over several processes: each holds some of the neurons, or some of the experts.

Either way a process computes its share of the output from all tokens, and one sum over the processes completes it.
The neurons of an expert add up, so a split along p_I is exact whatever the form; so is one along the experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .._core.errors import UsageError
from ..centers import find_center
from ..experts import ExpertStack
from ..methods import compress_layer
from .experts import ResMoEExperts
from .packing import pack
from .residuals import Residual, part

Split = Literal["neurons", "experts"]


class ParallelExperts(nn.Module):
    """One process's share of a packed block, with the block's own signature.

    Parameters
    ----------
    experts
        The share, as :func:`share_neurons` or :func:`share_experts` returns it.
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
        count = len(self.experts.groups) if self.experts.groups is not None else self.experts.num_experts
        own = top_k_index - self.first
        own = torch.where((own >= 0) & (own < count), own, count)
        output: Tensor = self.experts(hidden, own, top_k_weights)
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
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    blocks = {name: module for name, module in model.named_modules() if isinstance(module, ResMoEExperts)}
    if not blocks:
        raise UsageError(
            f"{type(model).__name__} has no packed experts, expected a packed checkpoint: compress it first"
        )
    for name, block in blocks.items():
        if split == "neurons":
            shared = ParallelExperts(share_neurons(block, rank, world), group=group)
        else:
            experts = share_experts(block, rank, world)
            shared = ParallelExperts(experts, first=part(_routed(block), rank, world).start, group=group)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, shared)
    return model


def pack_share(
    stack: ExpertStack,
    *,
    activation: Callable[[Tensor], Tensor],
    method: str = "resmoe-svd-separate",
    keep: float = 0.25,
    center: str = "wasserstein",
    seed: int = 0,
    group: dist.ProcessGroup | None = None,
    **options: Any,
) -> ParallelExperts:
    """Compress and pack this process's experts of a layer, with a center of their own.

    Expert parallelism with one center for each process: a closer center for fewer experts, stored as often as there
    are processes.

    Parameters
    ----------
    stack
        All experts of the layer, the same in every process.
    activation
        The experts' activation function.
    method, keep, center, seed
        As for :func:`~resmoe_lab.methods.compress_layer` and :func:`~resmoe_lab.centers.find_center`.
    group
        The processes; all of them if not given.
    options
        Passed on to :func:`~.packing.pack`.
    """
    own = part(stack.num_experts, dist.get_rank(group), dist.get_world_size(group))
    share = stack.with_weights(stack.weights[own])
    fitted = find_center(share, center=center, seed=seed)
    layer = compress_layer(share, method=method, keep=keep, center=fitted, seed=seed)
    return ParallelExperts(pack(layer, stack.blocks, activation=activation, **options), first=own.start, group=group)


def share_neurons(block: ResMoEExperts, rank: int, world: int) -> ResMoEExperts:
    """Return a block with only some of each expert's neurons; the outputs of all shares add up to its own."""
    neurons = part(block.residual.num_neurons, rank, world)
    center = None if block.center is None else block.center[:, neurons].detach().clone()
    residual = block.residual.some_neurons(rank, world)
    return _like(block, center, residual, num_experts=block.num_experts, groups=block.groups)


def share_experts(block: ResMoEExperts, rank: int, world: int) -> ResMoEExperts:
    """Return a block with only some of the router's experts; it knows them by their place in the share."""
    routed = part(_routed(block), rank, world)
    groups = range(block.num_experts) if block.groups is None else block.groups
    stored = sorted(set(groups[routed]))
    center = None if block.center is None else block.center.detach().clone()
    numbers = None if block.groups is None else [stored.index(group) for group in groups[routed]]
    residual = block.residual.some_experts(stored)
    return _like(block, center, residual, num_experts=len(stored), groups=numbers)


def _routed(block: ResMoEExperts) -> int:
    return block.num_experts if block.groups is None else len(block.groups)


def _like(
    block: ResMoEExperts, center: Tensor | None, residual: Residual, *, num_experts: int, groups: Sequence[int] | None
) -> ResMoEExperts:
    """A block that computes as another one does."""
    how: dict[str, Any] = {"activation": block.activation, "dtype": block.dtype, "mode": block.mode}
    how["cache_experts"] = block.cache_experts
    return ResMoEExperts(center, residual, num_experts=num_experts, groups=groups, **how)
