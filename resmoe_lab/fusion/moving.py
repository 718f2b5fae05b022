"""Carrying a network's tensors over to the neurons of another one."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .._core.errors import UsageError
from ..transport import Coupling
from .graph import Axis, Graph, State

Couplings = Mapping[str, Coupling]


def move_axis(tensor: Tensor, coupling: Coupling, *, axis: int, incoming: bool) -> Tensor:
    """Carry one axis of a tensor from n neurons over to m.

    Parameters
    ----------
    tensor
        Its `axis` has n entries, or n times as many where each neuron became several inputs by flattening.
    coupling
        (n, m) plan.
    axis
        Which axis.
    incoming
        False for the neurons of a layer: each new one is a convex combination of old ones, ``sum_i T_ij / b_j w_i``.
        True for a layer's inputs: what an old neuron fed is spread over the new ones, ``sum_i T_ij / a_i w_i``, so that
        nothing is lost or counted twice. For equal numbers of neurons with equal masses the two are the same.

    Returns
    -------
    Tensor
        Of the same dtype.

    References
    ----------
    Model Fusion via Optimal Transport, equations (2) and (3). Equation (2) divides inputs by ``b_j`` too, which scales
    every layer by n / m where widths differ.
    """
    n = coupling.plan.shape[0]
    inner, rest = divmod(tensor.shape[axis], n)
    if rest:
        raise UsageError(f"an axis of {tensor.shape[axis]} entries cannot belong to {n} neurons, expected a multiple")
    moved = tensor.movedim(axis, 0).unflatten(0, (n, inner))
    if coupling.permutation is not None:
        moved = moved[coupling.permutation.to(tensor.device)]
    else:
        matrix = (coupling.to_rows() if incoming else coupling.to_columns()).to(tensor.device)
        moved = torch.tensordot(matrix.T, moved.double(), dims=1).to(tensor.dtype)
    return moved.flatten(0, 1).movedim(0, axis)


def move_state(state: State, axes: Mapping[str, tuple[Axis | None, ...]], couplings: Couplings) -> dict[str, Tensor]:
    """Carry every tensor of a network over along all its axes; tensors without any are copied."""
    moved = {}
    for name, tensor in state.items():
        fresh = tensor.detach().clone()
        for place, axis in enumerate(axes[name]):
            if axis is not None:
                fresh = move_axis(fresh, couplings[axis.variable], axis=place, incoming=axis.incoming)
        moved[name] = fresh.contiguous()
    return moved


def with_state(network: nn.Module, state: State) -> nn.Module:
    """Return a copy of a network with other tensors, also of other widths; the network stays as it is."""
    fresh = copy.deepcopy(network)
    for name, tensor in state.items():
        owner, _, own = name.rpartition(".")
        module = fresh.get_submodule(owner)
        if own in module._parameters:
            setattr(module, own, nn.Parameter(tensor.clone(), requires_grad=getattr(module, own).requires_grad))
        else:
            setattr(module, own, tensor.clone())
    for module in fresh.modules():
        _tell_widths(module)
    return fresh


def _tell_widths(module: nn.Module) -> None:
    """Bring the numbers that a module keeps beside its tensors in step with them."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv1d | nn.Conv2d):
        depthwise = module.groups > 1
        module.out_channels = len(module.weight)
        module.groups = module.out_channels if depthwise else 1
        module.in_channels = module.out_channels if depthwise else module.weight.shape[1]
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
        module.num_features = len(module.weight)
    elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
        module.normalized_shape = tuple(module.weight.shape)


def average_states(states: list[dict[str, Tensor]], shares: Tensor, *, like: State) -> dict[str, Tensor]:
    """Return the weighted mean of tensors of one shape, summed in float64; counters are those of `like`."""
    mean = {}
    for name, tensor in like.items():
        if tensor.is_floating_point():
            parts = [share * state[name].double() for share, state in zip(shares.tolist(), states, strict=True)]
            mean[name] = torch.stack(parts).sum(0).to(tensor.dtype)
        else:
            mean[name] = tensor.detach().clone()
    return mean


def mixed_couplings(graph: Graph, couplings: Couplings) -> dict[str, Coupling]:
    """Add the couplings of sums: the average of the shortcut's and the branch's.

    References
    ----------
    Model Fusion via Optimal Transport, section 5.3.3, with beta at the paper's 0.5.
    """
    known = dict(couplings)
    for name, (first, second) in graph.mixes.items():
        if first in known and second in known:
            a, b = known[first], known[second]
            if a.permutation is not None and b.permutation is not None and torch.equal(a.permutation, b.permutation):
                known[name] = a
                continue
            plan = (a.plan + b.plan) / 2
            known[name] = Coupling(plan, plan.sum(1), plan.sum(0), (a.cost + b.cost) / 2)
    return known
