"""How much each weight of an expert is used, from calibration text."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..centers import Center, Statistics
from ..experts import ExpertStack


def importances(stack: ExpertStack, center: Center | None, statistics: Statistics) -> Iterator[torch.Tensor]:
    """Yield, for every expert, the (p_I, D) root mean square of what each weight is multiplied with.

    A weight of W1 or W3 is multiplied with an input feature, one of W2 with its neuron's value, a bias with one. Rows
    follow the center's order where there is one.

    References
    ----------
    The score |W_ij| ||x_j|| of Wanda (arXiv 2306.11695), as D2-MoE (arXiv 2502.17298) applies it to differences.
    """
    assert statistics.inputs is not None
    assert statistics.neurons is not None
    for k, weights in enumerate(stack.weights):
        inputs = statistics.inputs[k].to(weights).sqrt()
        neurons = statistics.neurons[k].to(weights).sqrt()
        if center is not None:
            neurons = neurons[center.permutations[k].to(weights.device)]
        importance = torch.ones_like(weights)
        for block in stack.blocks:
            if block.name in ("w1", "w3"):
                importance[:, block.start : block.stop] = inputs
            elif block.name == "w2":
                importance[:, block.start : block.stop] = neurons[:, None]
        yield importance
