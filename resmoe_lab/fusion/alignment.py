"""Aligning the neurons of one network with those of another, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .._core.errors import UsageError
from .._core.progress import Progress, Tick, silent
from ..transport import Coupling, couple
from .checks import common_graph
from .features import activation_features, importance, known_writers, probe, weight_features
from .graph import Graph
from .moving import Couplings, mixed_couplings, move_state, with_state
from .tracing import Residual

BY = ("weights", "activations")


@dataclass(frozen=True)
class Matching:
    """How neurons are compared and matched.

    Attributes
    ----------
    by
        ``"weights"``: distance of incoming weights, rows of length 1. ``"activations"``: distance of pre-activations.
    samples
        Inputs (m, ...) that activations and importance are measured on.
    regularization
        Sinkhorn's constant in the unit of the distances; None for exact transport.
    importance
        Masses by importance; equal masses otherwise.
    """

    by: str = "weights"
    samples: Tensor | None = None
    regularization: float | None = None
    importance: bool = False

    def __post_init__(self) -> None:
        if self.by not in BY:
            raise UsageError(f"by is {self.by!r}, expected 'weights' or 'activations'")
        if self.needs_samples and self.samples is None:
            raise UsageError("no samples are given, expected some: aligning by activations or importance measures them")

    @property
    def needs_samples(self) -> bool:
        """Whether the networks are run."""
        return self.by == "activations" or self.importance


class Sight:
    """One network as the alignment sees it.

    Parameters
    ----------
    network, graph
        The network and its variables.
    matching
        Says whether the network is run on samples.

    Attributes
    ----------
    state, axes
        Its tensors, and what their axes mean.
    probed
        What its neurons answer to the samples, by variable.
    """

    def __init__(self, network: nn.Module, graph: Graph, matching: Matching) -> None:
        self.network, self.graph, self.matching = network, graph, matching
        self.state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
        self.axes = graph.axes(self.state)
        samples = matching.samples if matching.needs_samples else None
        self.probed = {} if samples is None else probe(network, graph, samples)

    def features(self, variable: str, layers: list[str], inputs: Couplings) -> Tensor:
        """Return what the neurons of a variable are compared by, (n, D) float64."""
        if self.matching.by == "activations":
            return activation_features(self.probed[variable])
        return weight_features(self.state, layers, inputs, variable=variable)

    def masses(self, variable: str) -> Tensor | None:
        """Return the masses of a variable's neurons, (n,) float64, or None for equal ones."""
        return importance(self.probed[variable], variable) if self.matching.importance else None


@dataclass(frozen=True, eq=False)
class Aligned:
    """A network carried over to the neurons of another.

    Attributes
    ----------
    network
        It has the other's widths.
    couplings
        By variable, (n, m) from its own neurons to the other's.
    """

    network: nn.Module
    couplings: Mapping[str, Coupling]


def find_couplings(
    moving: Sight, reference: Sight, *, before: Couplings | None = None, progress: Progress = silent
) -> dict[str, Coupling]:
    """Match the neurons of two networks, in the order of the forward pass.

    Parameters
    ----------
    moving, reference
        Of one graph.
    before
        Couplings of an earlier round, used where a layer's inputs have no new one yet.
    progress
        Told before every variable; raising from it cancels.

    References
    ----------
    Model Fusion via Optimal Transport, algorithm 1.
    """
    graph, matching = moving.graph, moving.matching
    new: dict[str, Coupling] = {}
    for done, variable in enumerate(graph.variables):
        progress(Tick("matching neurons", done, len(graph.variables)))
        known = {**(before or {}), **mixed_couplings(graph, new)}
        layers = known_writers(graph, variable, known)
        sources = {layer.name: layer.into for layer in graph.writers(variable) if layer.into is not None}
        inputs = {name: known[source] for name, source in sources.items() if name in layers}
        cost = torch.cdist(moving.features(variable, layers, inputs), reference.features(variable, layers, {}))
        rows, columns = moving.masses(variable), reference.masses(variable)
        new[variable] = couple(cost, rows=rows, columns=columns, regularization=matching.regularization)
    progress(Tick("matching neurons", len(graph.variables), len(graph.variables)))
    return mixed_couplings(graph, new)


def carry_over(moving: Sight, reference: Sight, couplings: Couplings) -> Aligned:
    """Return the network in the other's neurons; neither is changed."""
    return Aligned(with_state(reference.network, move_state(moving.state, moving.axes, couplings)), couplings)


def align(
    network: nn.Module,
    reference: nn.Module,
    *,
    graph: Graph | None = None,
    residual: Residual = "shared",
    by: str = "weights",
    samples: Tensor | None = None,
    regularization: float | None = None,
    importance: bool = False,
    progress: Progress = silent,
) -> Aligned:
    """Align one network with another, of the same or other widths.

    Parameters
    ----------
    network, reference
        Of one architecture; neither is changed.
    graph
        Their coupling variables; found by :func:`~resmoe_lab.fusion.graph_of` where it is left out.
    residual
        How residual streams are traced, see :func:`~resmoe_lab.fusion.trace_graph`.
    by, samples, regularization, importance
        See :class:`Matching`.
    progress
        Told before every variable; raising from it cancels.

    Raises
    ------
    UsageError, WeightError, DataError
        If the networks do not fit together or cannot be compared.
    """
    matching = Matching(by, samples, regularization, importance)
    graph = common_graph([network, reference], graph=graph, residual=residual)
    sights = [Sight(each, graph, matching) for each in (network, reference)]
    return carry_over(sights[0], sights[1], find_couplings(sights[0], sights[1], progress=progress))
