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
from .features import activation_features, importance, probe, usable_writers, weight_features
from .graph import Graph
from .states import Couplings, transport_state, with_mixed_couplings, with_state
from .tracing import Residual

BY = ("weights", "activations")


@dataclass(frozen=True)
class Matching:
    """Settings of the alignment: how neurons are compared and matched.

    Attributes
    ----------
    by
        ``"weights"``: distance of normalized incoming weights. ``"activations"``: distance of pre-activations.
    samples
        Inputs (m, ...) on which activations and importance are measured.
    regularization
        Sinkhorn's entropic regularization in the unit of the distances; None for exact transport.
    importance
        Whether neurons have masses by importance instead of equal ones.
    """

    by: str = "weights"
    samples: Tensor | None = None
    regularization: float | None = None
    importance: bool = False

    def __post_init__(self) -> None:
        if self.by not in BY:
            raise UsageError(f"by is {self.by!r}, expected 'weights' or 'activations'")
        if self.needs_samples and self.samples is None:
            raise UsageError("no samples are given, expected some: alignment by activations or importance needs them")

    @property
    def needs_samples(self) -> bool:
        """Whether the networks have to be run on samples."""
        return self.by == "activations" or self.importance


class ProbedNetwork:
    """A network with what the alignment needs to know of it: tensors, axes and activations.

    Parameters
    ----------
    network, graph
        The network and its variables.
    matching
        The settings, which decide whether the network is run on samples.

    Attributes
    ----------
    state, axes
        Its tensors, and the variables along their axes.
    activations
        Pre-activations of its neurons on the samples, by variable.
    """

    def __init__(self, network: nn.Module, graph: Graph, matching: Matching) -> None:
        self.network, self.graph, self.matching = network, graph, matching
        self.state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
        self.axes = graph.axes(self.state)
        samples = matching.samples if matching.needs_samples else None
        self.activations = {} if samples is None else probe(network, graph, samples)

    def features(self, variable: str, layers: list[str], inputs: Couplings) -> Tensor:
        """Return the feature vectors by which a variable's neurons are compared, (n, D) float64."""
        if self.matching.by == "activations":
            return activation_features(self.activations[variable])
        return weight_features(self.state, layers, inputs, variable=variable)

    def masses(self, variable: str) -> Tensor | None:
        """Return the masses of a variable's neurons, (n,) float64, or None for equal ones."""
        return importance(self.activations[variable], variable) if self.matching.importance else None


@dataclass(frozen=True, eq=False)
class AlignedNetwork:
    """A network expressed in the neurons of another.

    Attributes
    ----------
    network
        The aligned network, with the other's widths.
    couplings
        By variable, (n, m) from the original network's neurons to the other's.
    """

    network: nn.Module
    couplings: Mapping[str, Coupling]


def find_couplings(
    source: ProbedNetwork, reference: ProbedNetwork, *, previous: Couplings | None = None, progress: Progress = silent
) -> dict[str, Coupling]:
    """Match the neurons of two networks, in the order of the forward pass.

    Parameters
    ----------
    source, reference
        Networks of one graph.
    previous
        Couplings of the previous round, used where a layer's inputs have no new one yet.
    progress
        Called before every variable; raising from it cancels.

    References
    ----------
    Model Fusion via Optimal Transport, algorithm 1.
    """
    graph, matching = source.graph, source.matching
    couplings: dict[str, Coupling] = {}
    for done, variable in enumerate(graph.variables):
        progress(Tick("matching neurons", done, len(graph.variables)))
        available = {**(previous or {}), **with_mixed_couplings(graph, couplings)}
        layers = usable_writers(graph, variable, available)
        inputs = {
            layer.name: available[layer.into]
            for layer in graph.writers(variable)
            if layer.into is not None and layer.name in layers
        }
        features = source.features(variable, layers, inputs), reference.features(variable, layers, {})
        common = torch.cat(features).mean(0)  # distances do not depend on it, but their rounding does
        cost = torch.cdist(features[0] - common, features[1] - common)
        rows, columns = source.masses(variable), reference.masses(variable)
        couplings[variable] = couple(cost, rows=rows, columns=columns, regularization=matching.regularization)
    progress(Tick("matching neurons", len(graph.variables), len(graph.variables)))
    return with_mixed_couplings(graph, couplings)


def transport_network(source: ProbedNetwork, reference: ProbedNetwork, couplings: Couplings) -> AlignedNetwork:
    """Return a copy of the source network expressed in the reference's neurons."""
    return AlignedNetwork(
        with_state(reference.network, transport_state(source.state, source.axes, couplings)), couplings
    )


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
) -> AlignedNetwork:
    """Align one network with another, of the same or other widths.

    Parameters
    ----------
    network, reference
        Networks of one architecture; neither is changed.
    graph
        Their coupling variables (default: by :func:`~resmoe_lab.fusion.graph_of`).
    residual
        How residual streams are traced, see :func:`~resmoe_lab.fusion.trace_graph`.
    by, samples, regularization, importance
        See :class:`~resmoe_lab.fusion.alignment.Matching`.
    progress
        Called before every variable; raising from it cancels.

    Returns
    -------
    AlignedNetwork
        The network in the neurons of the reference, and the couplings.

    Raises
    ------
    UsageError, WeightError, DataError
        If the networks differ in architecture or cannot be compared.

    Examples
    --------
    >>> from resmoe_lab.fusion import MLPNet
    >>> network = MLPNet((4, 3, 2))
    >>> align(network, network).couplings["fc1"].permutation
    tensor([0, 1, 2])
    """
    matching = Matching(by, samples, regularization, importance)
    graph = common_graph([network, reference], graph=graph, residual=residual)
    source, target = (ProbedNetwork(each, graph, matching) for each in (network, reference))
    return transport_network(source, target, find_couplings(source, target, progress=progress))
