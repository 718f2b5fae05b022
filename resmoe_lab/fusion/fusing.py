"""Fusion of several networks into one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import pandas as pd
import torch
from torch import Tensor, nn

from .._core.errors import UsageError
from .._core.progress import Progress, Tick, silent
from ..transport import Coupling, identity_coupling
from .alignment import AlignedNetwork, Matching, ProbedNetwork, find_couplings, transport_network
from .checks import common_graph, mixing_weights
from .graph import Graph
from .states import average_states, with_state
from .tracing import Residual


@dataclass(frozen=True, eq=False)
class Fusion:
    """The result of :func:`fuse`.

    Attributes
    ----------
    network
        The fused network, of the reference's widths.
    aligned
        Every network, expressed in the reference's neurons.
    couplings
        For every network, by variable: (n, m) from its own neurons to the reference's.
    shares
        (K,) float64, the weights of the average.
    rounds
        Number of times that the networks were aligned.
    seconds
        Wall time, including that of activations.
    """

    network: nn.Module
    aligned: tuple[nn.Module, ...]
    couplings: tuple[Mapping[str, Coupling], ...]
    shares: Tensor
    rounds: int
    seconds: float

    def mix(self, weights: Sequence[float] | Tensor) -> nn.Module:
        """Average the aligned networks with other weights, without another alignment.

        Raises
        ------
        UsageError
            If the weights are not one non-negative number a network, or do not sum to one.
        """
        return _mean(self.aligned, mixing_weights(weights, len(self.aligned)))

    def costs(self) -> pd.DataFrame:
        """Return the transport costs, columns ``network, layer, neurons, cost``: the distances of layers.

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
        K networks of one architecture, trained separately; hidden layers may differ in width. None is changed.
    weights
        (K,) non-negative, summing to one (default: equal).
    reference
        Index of the network with which all others are aligned: the first estimate of the fused network.
    rounds
        Maximum number of alignments, each with the fused network of the previous one as the estimate; it stops early if
        no match changes. More than one helps residual networks.
    graph
        The coupling variables (default: by :func:`~resmoe_lab.fusion.graph_of`).
    residual
        How residual streams are coupled: by one ``"shared"`` coupling or by the ``"average"`` of two.
    by
        Features by which neurons are compared: ``"weights"`` or ``"activations"``.
    samples
        Inputs (m, ...), for activations and importance.
    regularization
        Sinkhorn's entropic regularization in the unit of the distances; None for exact transport.
    importance
        Whether neurons have masses by importance instead of equal ones.
    progress
        Called before every network and every variable; raising from it cancels.

    Returns
    -------
    Fusion
        The fused network, the aligned networks and their couplings.

    Raises
    ------
    UsageError, WeightError, DataError
        If the networks differ in architecture, cannot be compared, or an argument is out of range.

    References
    ----------
    Model Fusion via Optimal Transport, algorithm 1 and section 5.3.3.

    Examples
    --------
    >>> import torch
    >>> from resmoe_lab.fusion import MLPNet
    >>> fusion = fuse([MLPNet((4, 3, 2)), MLPNet((4, 3, 2))])
    >>> fusion.network(torch.zeros(5, 4)).shape
    torch.Size([5, 2])
    """
    started = time.perf_counter()
    shares = mixing_weights(weights, len(networks))
    if rounds < 1:
        raise UsageError(f"rounds is {rounds}, expected at least 1")
    if not -len(networks) <= reference < len(networks):
        raise UsageError(f"reference is {reference}, expected the index of one of {len(networks)} networks")
    matching = Matching(by, samples, regularization, importance)
    graph = common_graph(networks, graph=graph, residual=residual)
    sources = [ProbedNetwork(network, graph, matching) for network in networks]
    aligned, done = _rounds(sources, reference % len(sources), shares=shares, rounds=rounds, progress=progress)
    networks = tuple(each.network for each in aligned)
    couplings = tuple(each.couplings for each in aligned)
    return Fusion(_mean(networks, shares), networks, couplings, shares, done, time.perf_counter() - started)


def _rounds(
    sources: list[ProbedNetwork], reference: int, *, shares: Tensor, rounds: int, progress: Progress
) -> tuple[list[AlignedNetwork], int]:
    """Align all networks with the estimate, and repeat with their average as the next estimate."""
    estimate = sources[reference]
    widths = estimate.graph.widths(estimate.state)
    identity = {variable: identity_coupling(width) for variable, width in widths.items()}
    couplings: list[dict[str, Coupling]] = [identity if index == reference else {} for index in range(len(sources))]
    for done in range(1, rounds + 1):
        previous = list(couplings)
        for index, source in enumerate(sources):
            progress(Tick("fusing networks", index, len(sources), {"round": done}))
            # The first estimate is the reference itself.
            if done > 1 or index != reference:
                couplings[index] = find_couplings(source, estimate, previous=previous[index], progress=progress)
        aligned = [transport_network(*pair) for pair in zip(sources, repeat(estimate), couplings, strict=False)]
        if done == rounds or (done > 1 and all(map(_same_plans, previous, couplings))):
            break
        fused = _mean([each.network for each in aligned], shares)
        estimate = ProbedNetwork(fused, estimate.graph, estimate.matching)
    progress(Tick("fusing networks", len(sources), len(sources)))
    return aligned, done


def _mean(networks: Sequence[nn.Module], shares: Tensor) -> nn.Module:
    states = [network.state_dict() for network in networks]
    template = networks[int(shares.argmax())]
    return with_state(template, average_states(states, shares, template=template.state_dict()))


def _same_plans(first: Mapping[str, Coupling], second: Mapping[str, Coupling]) -> bool:
    same_names = first.keys() == second.keys()
    return same_names and all(torch.equal(first[name].plan, second[name].plan) for name in second)
