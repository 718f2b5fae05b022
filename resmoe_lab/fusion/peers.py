"""What fusion stands beside: the plain average of weights, and the ensemble that keeps every network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .._core.errors import UsageError
from .checks import check_shares
from .moving import average_states, with_state


def vanilla_average(networks: Sequence[nn.Module], *, weights: Sequence[float] | Tensor | None = None) -> nn.Module:
    """Average networks tensor by tensor, as if their neurons stood in one order.

    Raises
    ------
    UsageError
        If shapes differ, or the weights do not sum to one.
    """
    shares = check_shares(weights, len(networks))
    states = [network.state_dict() for network in networks]
    for index, state in enumerate(states[1:], start=1):
        names = [name for name in states[0] if name not in state or state[name].shape != states[0][name].shape]
        if names or len(state) != len(states[0]):
            raise UsageError(
                f"network {index} differs from network 0 in shape{f' at {names[0]!r}' if names else ''}, expected one "
                "shape for all: only fuse() takes networks of unequal widths"
            )
    return with_state(networks[0], average_states(states, shares, like=states[0]))


class Ensemble(nn.Module):
    """The weighted mean of several networks' outputs: K times the memory and the time.

    Parameters
    ----------
    networks
        K networks.
    weights
        (K,) non-negative, summing to one; equal if left out.
    """

    def __init__(self, networks: Sequence[nn.Module], *, weights: Sequence[float] | Tensor | None = None) -> None:
        super().__init__()
        self.shares = check_shares(weights, len(networks)).tolist()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean scores, (n, classes)."""
        scores = [share * network(images) for share, network in zip(self.shares, self.networks, strict=True)]
        return torch.stack(scores).sum(0)
