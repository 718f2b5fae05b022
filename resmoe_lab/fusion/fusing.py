"""Several networks into one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from .._core.errors import UsageError
from .._core.progress import Progress, Tick, silent
from ..transport import Coupling, identity_coupling
from .alignment import Aligned, Matching, Sight, carry_over, find_couplings
from .checks import check_shares, common_graph
from .graph import Graph
from .moving import average_states, with_state
from .tracing import Residual


@dataclass(frozen=True, eq=False)
class Fusion:
    """What :func:`fuse` returns.

    Attributes
    ----------
    network
        The fused network, of the reference's widths.
    aligned
        Every network, carried over to the reference's neurons.
    couplings
        For every network, by variable: (n, m) from its own neurons to the reference's.
    shares
        (K,) float64: what the average was weighted with.
    rounds
        How often the networks were aligned.
    seconds
        Wall time, activations included.
    """

    network: nn.Module
    aligned: tuple[nn.Module, ...]
    couplings: tuple[Mapping[str, Coupling], ...]
    shares: Tensor
    rounds: int
    seconds: float

    def mix(self, weights: Sequence[float] | Tensor) -> nn.Module:
        """Average the aligned networks with other weights; nothing is matched anew.

        Raises
        ------
        UsageError
            If the weights are not one non-negative number a network, or do not sum to one.
        """
        return _mean(self.aligned, check_shares(weights, len(self.aligned)))

    def costs(self) -> pd.DataFrame:
        """Return the transport costs, columns ``network, layer, neurons, cost``: how far apart layers are.

        References
        ----------
        Model Fusion via Optimal Transport, supplement S2.6.
        """
        rows = [
            (index, variable, len(coupling.rows), coupling.cost)
            for index, couplings in enumerate(self.couplings)
            for variable, coupling in couplings.items()
        ]
        return pd.DataFrame(rows, columns=["network", "layer", "neurons", "cost"])


def fuse(
    networks: Sequence[nn.Module],
    *,
    weights: Sequence[float] | Tensor | None = None,
    reference: int = -1,
    rounds: int = 1,
    graph: Graph | None = None,
    residual: Residual = "shared",
    by: str = "weights",
    samples: Tensor | None = None,
    regularization: float | None = None,
    importance: bool = False,
    progress: Progress = silent,
) -> Fusion:
    """Align networks with one of them and average them.

    Parameters
    ----------
    networks
        K networks of one architecture, trained apart; hidden layers may differ in width. None is changed.
    weights
        (K,) non-negative, summing to one; equal if left out.
    reference
        Index of the network whose neurons all others are carried over to: the first estimate of the fused network.
    rounds
        How often the fused network is taken as the next estimate; rounds end early where no match changes. More than
        one helps residual networks.
    graph
        The coupling variables; found by :func:`~resmoe_lab.fusion.graph_of` where it is left out.
    residual
        How residual streams are traced: ``"shared"`` couplings or the ``"average"`` of two.
    by
        ``"weights"`` or ``"activations"``: what neurons are compared by.
    samples
        Inputs (m, ...), for activations and importance.
    regularization
        Sinkhorn's constant in the unit of the distances; None for exact transport.
    importance
        Masses of neurons by their importance instead of equal ones.
    progress
        Told before every network and every variable; raising from it cancels.

    Raises
    ------
    UsageError, WeightError, DataError
        If the networks do not fit together, cannot be compared, or an argument is not allowed.

    References
    ----------
    Model Fusion via Optimal Transport, algorithm 1 and section 5.3.3.
    """
    begun = time.perf_counter()
    shares = check_shares(weights, len(networks))
    if rounds < 1:
        raise UsageError(f"rounds is {rounds}, expected at least 1")
    if not -len(networks) <= reference < len(networks):
        raise UsageError(f"reference is {reference}, expected the index of one of {len(networks)} networks")
    matching = Matching(by, samples, regularization, importance)
    graph = common_graph(networks, graph=graph, residual=residual)
    sights = [Sight(network, graph, matching) for network in networks]
    aligned, done = _rounds(sights, reference % len(sights), shares=shares, rounds=rounds, progress=progress)
    parts = tuple(each.network for each in aligned)
    couplings = tuple(each.couplings for each in aligned)
    return Fusion(_mean(parts, shares), parts, couplings, shares, done, time.perf_counter() - begun)


def _rounds(
    sights: list[Sight], reference: int, *, shares: Tensor, rounds: int, progress: Progress
) -> tuple[list[Aligned], int]:
    """Align all networks with the estimate, average them, and take that as the next estimate."""
    estimate = sights[reference]
    widths = estimate.graph.widths(estimate.state)
    unmoved = {variable: identity_coupling(width) for variable, width in widths.items()}
    couplings: list[dict[str, Coupling]] = [unmoved if index == reference else {} for index in range(len(sights))]
    for done in range(1, rounds + 1):
        before = list(couplings)
        for index, sight in enumerate(sights):
            progress(Tick("fusing networks", index, len(sights), {"round": done}))
            # Nothing is nearer to the first estimate than the network that it is.
            if done > 1 or index != reference:
                couplings[index] = find_couplings(sight, estimate, before=before[index], progress=progress)
        aligned = [carry_over(sight, estimate, found) for sight, found in zip(sights, couplings, strict=True)]
        if done == rounds or (done > 1 and all(map(_same, before, couplings))):
            break
        fused = _mean([each.network for each in aligned], shares)
        estimate = Sight(fused, estimate.graph, estimate.matching)
    progress(Tick("fusing networks", len(sights), len(sights)))
    return aligned, done


def _mean(networks: Sequence[nn.Module], shares: Tensor) -> nn.Module:
    states = [network.state_dict() for network in networks]
    like = networks[int(shares.argmax())]
    return with_state(like, average_states(states, shares, like=like.state_dict()))


def _same(before: Mapping[str, Coupling], now: Mapping[str, Coupling]) -> bool:
    return before.keys() == now.keys() and all(torch.equal(before[name].plan, now[name].plan) for name in now)
