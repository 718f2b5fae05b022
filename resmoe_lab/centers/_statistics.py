"""What calibration text tells about the experts of a layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .._core.errors import UsageError
from ..experts import ExpertStack


@dataclass(frozen=True)
class Statistics:
    """How a layer's experts are used by some text.

    Parameters
    ----------
    usage
        (N,) float64: share of the routed tokens that each expert receives; the shares add up to one.
    affinity
        (N, N) float64: cosine similarity of the experts' router logits over the tokens. This and the next three are
        None where a routing trace tells the usage and nothing more.
    inputs
        (N, p) float32: mean square of each input feature over an expert's own tokens.
    neurons
        (N, p_I) float32: mean square of what each neuron hands on to W2, over an expert's own tokens.
    moments
        (p, p) float32: E[x x^T] over all tokens of the layer.
    fisher
        (N,) float64: mean squared gradient of the loss with respect to an expert's weights; None if not asked for.
    source
        The calibration text's name, or that of the routing trace.
    tokens
        How many tokens it had.
    expert_tokens
        (N,) int64: how many tokens each expert received; None if not known.
    input_moments, neuron_moments
        (N, p, p) and (N, p_I, p_I) float32: E[x x^T] of an expert's inputs and E[h h^T] of what its neurons hand on to
        W2, over its own tokens; None if not asked for.
    """

    usage: torch.Tensor
    affinity: torch.Tensor | None = None
    inputs: torch.Tensor | None = None
    neurons: torch.Tensor | None = None
    moments: torch.Tensor | None = None
    fisher: torch.Tensor | None = None
    source: str = ""
    tokens: int = 0
    expert_tokens: torch.Tensor | None = None
    input_moments: torch.Tensor | None = None
    neuron_moments: torch.Tensor | None = None

    @classmethod
    def even(cls, stack: ExpertStack) -> Statistics:
        """Return what there would be if every expert were used equally, on white inputs: for measurements of cost."""
        count, neurons = stack.num_experts, stack.intermediate_size
        p = stack.blocks[-1].stop - stack.blocks[-1].start
        return cls(
            usage=torch.full((count,), 1 / count, dtype=torch.float64),
            affinity=torch.eye(count, dtype=torch.float64),
            inputs=torch.ones(count, p),
            neurons=torch.ones(count, neurons),
            moments=torch.eye(p),
            fisher=torch.ones(count, dtype=torch.float64),
            source="none",
            tokens=0,
            expert_tokens=torch.full((count,), 2**31),
            input_moments=torch.eye(p).expand(count, p, p),
            neuron_moments=torch.eye(neurons).expand(count, neurons, neurons),
        )

    @property
    def unreached(self) -> list[int]:
        """Experts that received no token."""
        return (self.usage == 0).nonzero().flatten().tolist()


def needed(statistics: Statistics | None, who: str, *, only_usage: bool = False) -> Statistics:
    """Return the statistics, or say that somebody cannot do without.

    Parameters
    ----------
    statistics
        What there is.
    who
        Who needs them.
    only_usage
        Whether the usage of the experts, as a routing trace tells it, is enough.

    Raises
    ------
    UsageError
        If there are none, or not enough.
    """
    if statistics is None or (statistics.inputs is None and not only_usage):
        raise lacking(who, only_usage=only_usage)
    return statistics


def lacking(who: str, *, only_usage: bool = False) -> UsageError:
    """Return the error of somebody who has no statistics."""
    hint = " or a routing trace (--usage FILE)" if only_usage else ""
    return UsageError(f"{who} needs calibration statistics and has none: give it text (--calibration TASK){hint}")
