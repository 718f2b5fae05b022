"""State dicts of networks: transporting their tensors to the neurons of another network, and averaging them."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .._core.errors import UsageError
from ..transport import Coupling
from .graph import Axis, Graph, State

Couplings = Mapping[str, Coupling]


def transport_axis(tensor: Tensor, coupling: Coupling, *, axis: int, incoming: bool) -> Tensor:
    """Transport one axis of a tensor from n neurons to m.

    Parameters
    ----------
    tensor
        Its `axis` has n entries, or a multiple of n if flattening has turned every neuron into several inputs.
    coupling
        (n, m) plan.
    axis
        The axis.
    incoming
        False for the outputs of a layer: each new neuron is a convex combination of old ones, ``sum_i T_ij / b_j w_i``.
        True for its inputs: the weights of an old neuron are distributed over the new ones, ``sum_i T_ij / a_i w_i``,
        so that their sum is preserved. For equal numbers of neurons with equal masses the two are the same.

    Returns
    -------
    Tensor
        Of the same dtype.

    References
    ----------
    Model Fusion via Optimal Transport, equations (2) and (3). Equation (2) divides inputs by ``b_j`` too, which scales
    every layer by n / m if widths differ.
    """
    n = coupling.plan.shape[0]
    inner, remainder = divmod(tensor.shape[axis], n)
    if remainder:
        raise UsageError(f"an axis of {tensor.shape[axis]} entries cannot belong to {n} neurons, expected a multiple")
    transported = tensor.movedim(axis, 0).unflatten(0, (n, inner))
    if coupling.permutation is not None:
        transported = transported[coupling.permutation.to(tensor.device)]
    else:
        matrix = (coupling.to_rows() if incoming else coupling.to_columns()).to(tensor.device)
        transported = torch.tensordot(matrix.T, transported.double(), dims=1).to(tensor.dtype)
    return transported.flatten(0, 1).movedim(0, axis)


def transport_state(
    state: State, axes: Mapping[str, tuple[Axis | None, ...]], couplings: Couplings
) -> dict[str, Tensor]:
    """Transport every tensor of a network along all its axes; tensors without variables are copied."""
    transported = {}
    for name, tensor in state.items():
        result = tensor.detach().clone()
        for dim, axis in enumerate(axes[name]):
            if axis is not None:
                result = transport_axis(result, couplings[axis.variable], axis=dim, incoming=axis.incoming)
        transported[name] = result.contiguous()
    return transported


def with_state(network: nn.Module, state: State) -> nn.Module:
    """Return a copy of a network with other tensors, which may have other widths."""
    result = copy.deepcopy(network)
    for name, tensor in state.items():
        owner, _, attribute = name.rpartition(".")
        module = result.get_submodule(owner)
        if attribute in module._parameters:
            setattr(
                module, attribute, nn.Parameter(tensor.clone(), requires_grad=getattr(module, attribute).requires_grad)
            )
        else:
            setattr(module, attribute, tensor.clone())
    for module in result.modules():
        _update_sizes(module)
    return result


def _update_sizes(module: nn.Module) -> None:
    """Set a module's size attributes to the shapes of its tensors."""
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


def average_states(states: list[dict[str, Tensor]], weights: Tensor, *, template: State) -> dict[str, Tensor]:
    """Return the weighted mean of states, summed in float64; integer tensors are those of `template`."""
    mean = {}
    for name, tensor in template.items():
        if tensor.is_floating_point():
            parts = [weight * state[name].double() for weight, state in zip(weights.tolist(), states, strict=True)]
            mean[name] = torch.stack(parts).sum(0).to(tensor.dtype)
        else:
            mean[name] = tensor.detach().clone()
    return mean


def with_mixed_couplings(graph: Graph, couplings: Couplings) -> dict[str, Coupling]:
    """Add the couplings of residual sums: the average of the shortcut's and the branch's.

    References
    ----------
    Model Fusion via Optimal Transport, section 5.3.3, with beta at the paper's 0.5.
    """
    result = dict(couplings)
    for name, (first, second) in graph.mixes.items():
        if first in result and second in result:
            a, b = result[first], result[second]
            if a.permutation is not None and b.permutation is not None and torch.equal(a.permutation, b.permutation):
                result[name] = a
                continue
            plan = (a.plan + b.plan) / 2
            result[name] = Coupling(plan, plan.sum(1), plan.sum(0), (a.cost + b.cost) / 2)
    return result
