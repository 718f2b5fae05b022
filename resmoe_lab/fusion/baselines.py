"""Baselines of fusion: the average of weights without alignment, and the ensemble of all networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .._core.errors import UsageError
from .checks import mixing_weights
from .states import average_states, with_state


def vanilla_average(networks: Sequence[nn.Module], *, weights: Sequence[float] | Tensor | None = None) -> nn.Module:
    """Average networks tensor by tensor, without alignment.

    Parameters
    ----------
    networks
        K networks of one shape.
    weights
        (K,) non-negative, summing to one (default: equal).

    Returns
    -------
    torch.nn.Module
        The average.

    Raises
    ------
    UsageError
        If shapes differ, or the weights do not sum to one.

    Examples
    --------
    >>> from torch import nn
    >>> average = vanilla_average([nn.Linear(3, 2), nn.Linear(3, 2)], weights=[0.3, 0.7])
    >>> average.weight.shape
    torch.Size([2, 3])
    """
    shares = mixing_weights(weights, len(networks))
    states = [network.state_dict() for network in networks]
    for index, state in enumerate(states[1:], start=1):
        names = [name for name in states[0] if name not in state or state[name].shape != states[0][name].shape]
        if names or len(state) != len(states[0]):
            raise UsageError(
                f"network {index} differs from network 0 in shape{f' at {names[0]!r}' if names else ''}, expected one "
                "shape for all: only fuse() takes networks of unequal widths"
            )
    return with_state(networks[0], average_states(states, shares, template=states[0]))


class Ensemble(nn.Module):
    """The weighted mean of the outputs of K networks, at K times the memory and time.

    Parameters
    ----------
    networks
        K networks.
    weights
        (K,) non-negative, summing to one (default: equal).

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> Ensemble([nn.Linear(3, 2), nn.Linear(3, 2)])(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(self, networks: Sequence[nn.Module], *, weights: Sequence[float] | Tensor | None = None) -> None:
        super().__init__()
        self.shares = mixing_weights(weights, len(networks)).tolist()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean scores, (n, classes)."""
        scores = [share * network(images) for share, network in zip(self.shares, self.networks, strict=True)]
        return torch.stack(scores).sum(0)
