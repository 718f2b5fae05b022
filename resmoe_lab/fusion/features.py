"""Features of neurons: their incoming weights, or their pre-activations on samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .._core.errors import DataError, WeightError
from ..transport import Coupling
from .graph import Graph, State
from .states import Couplings, transport_axis


def usable_writers(graph: Graph, variable: str, couplings: Couplings) -> list[str]:
    """Return the layers that write a variable and whose inputs are fixed or have a coupling.

    The later writers of a residual stream have none in the first round.
    """
    return [layer.name for layer in graph.writers(variable) if layer.into is None or layer.into in couplings]


def weight_features(state: State, layers: Sequence[str], inputs: Mapping[str, Coupling], *, variable: str) -> Tensor:
    """Return the incoming weights of a variable's neurons, each row scaled to length 1.

    Parameters
    ----------
    state
        The network's tensors.
    layers
        Names of the layers that write the variable.
    inputs
        For some of them, the coupling of their inputs with another network's.
    variable
        Name of the neurons in error messages.

    Returns
    -------
    Tensor
        (n, D) float64; the biases are columns, as weights of an input that is always 1.

    Raises
    ------
    WeightError
        If all weights of a neuron are zero, so that it has no direction.
    """
    parts = []
    for name in layers:
        weight = state[f"{name}.weight"]
        if name in inputs:
            weight = transport_axis(weight, inputs[name], axis=1, incoming=True)
        parts.append(weight.double().flatten(1))
        if f"{name}.bias" in state:
            parts.append(state[f"{name}.bias"].double()[:, None])
    rows = torch.cat(parts, 1)
    norms = rows.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()):
        index = int((norms[:, 0] == 0).nonzero()[0])
        raise WeightError(
            f"neuron {index} of {variable!r} has only zero weights, expected a direction to compare: prune it, or "
            "align by activations"
        )
    return rows / norms


def probe(network: nn.Module, graph: Graph, samples: Tensor) -> dict[str, list[Tensor]]:
    """Run a network on samples and record the pre-activations of every variable.

    Returns
    -------
    dict
        Name of the variable to one (neurons, samples, positions) float tensor per writer.

    Raises
    ------
    DataError
        If there are no samples, or their shape does not fit the network.
    WeightError
        If an activation is NaN or infinite.
    """
    if not len(samples):
        raise DataError("0 samples to align by, expected at least one: pass some, or align by weights")
    outputs: dict[str, Tensor] = {}

    def record(name: str) -> None:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            outputs[name] = (
                output.detach().transpose(0, 1).flatten(2) if output.ndim > 2 else output.detach().T[..., None]
            )

        handles.append(network.get_submodule(name).register_forward_hook(hook))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    training = network.training
    try:
        for name in {name for variable in graph.variables for name in graph.probes(variable)}:
            record(name)
        network.eval()
        with torch.no_grad():
            network(samples)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"samples of shape {tuple(samples.shape)} do not fit the network ({reason})") from error
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    for name, values in outputs.items():
        if not bool(torch.isfinite(values).all()):
            raise WeightError(f"the outputs of {name!r} hold NaN or infinity, expected finite ones: check the samples")
    return {variable: [outputs[name] for name in graph.probes(variable)] for variable in graph.variables}


def activation_features(activations: list[Tensor]) -> Tensor:
    """Return every neuron's pre-activations on all samples and positions, of all writers, (n, D) float64."""
    return torch.cat([values.flatten(1) for values in activations], 1).double()


def importance(activations: list[Tensor], variable: str) -> Tensor:
    """Return the mass of every neuron: its absolute mean pre-activation times its standard deviation, (n,) float64.

    Raises
    ------
    WeightError
        If the mass of a neuron is zero.

    References
    ----------
    Model Fusion via Optimal Transport, supplement S1.2. The mean's sign is dropped, as masses are positive.
    """
    rows = activation_features(activations)
    masses = rows.mean(1).abs() * rows.std(1, correction=0)
    if not bool((masses > 0).all()):
        index = int((masses <= 0).nonzero()[0])
        raise WeightError(
            f"neuron {index} of {variable!r} has the same output on all {activations[0].shape[1]} samples, so its "
            "importance is 0; expected every neuron to have mass: take other samples, or equal masses"
        )
    return masses
