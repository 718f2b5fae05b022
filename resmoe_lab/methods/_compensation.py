"""Error compensation: what rounding an input has lost is handed on to the inputs whose turn is still to come."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from .._core.errors import ResmoeWarning, UsageError
from ..centers import Statistics
from ..experts import ExpertStack

#: Added to the diagonal of the second moments, as a share of its mean.
DAMPING = 0.01
#: Inputs after which what was lost is handed on to all later ones.
BLOCK = 128
#: An expert that fewer calibration tokens reach is rounded to nearest.
LEAST_TOKENS = 128


def expert_moments(stack: ExpertStack, statistics: Statistics | None, *, method: str) -> Iterator[Any]:
    """Yield, for each expert, the columns of its weight matrices and the second moments of their inputs.

    An expert that too few tokens reach has None in their place, and a warning names it.

    Raises
    ------
    UsageError
        If the statistics lack the moments, or no expert was reached by enough tokens.
    """
    widths = stack.checked().shape.widths
    tokens = _reached(stack, statistics, method)
    for k, count in enumerate(tokens):
        moments: Sequence[torch.Tensor | None] = (None,) * len(widths)
        if count >= LEAST_TOKENS:
            assert statistics is not None
            assert statistics.input_moments is not None
            assert statistics.neuron_moments is not None
            inputs = statistics.input_moments[k]
            moments = [*(_with_bias(inputs, width) for width in widths[:-1]), statistics.neuron_moments[k]]
        yield widths, moments


def _reached(stack: ExpertStack, statistics: Statistics | None, method: str) -> list[int]:
    """How many tokens reached each expert; warn of those that are rounded to nearest."""
    if statistics is None or statistics.expert_tokens is None or statistics.input_moments is None:
        raise UsageError(f"method {method!r} needs full second moments and has none: calibrate(..., moments=True)")
    tokens: list[int] = statistics.expert_tokens.tolist()
    few = [k for k, count in enumerate(tokens) if count < LEAST_TOKENS]
    text = f"{statistics.tokens:,} tokens of {statistics.source}"
    if len(few) == len(tokens):
        raise UsageError(
            f"layer {stack.layer}: {max(tokens)} calibration tokens reach an expert at most ({text}), "
            f"expected at least {LEAST_TOKENS}: read more (--tokens)"
        )
    if few:
        warnings.warn(
            f"layer {stack.layer}: fewer than {LEAST_TOKENS} calibration tokens reach expert "
            f"{', '.join(map(str, few))} ({text}), rounded to nearest instead of by GPTQ: read more (--tokens)",
            ResmoeWarning,
            stacklevel=2,
        )
    return tokens


def _with_bias(moments: torch.Tensor, width: int) -> torch.Tensor:
    """Moments of the inputs and, where a bias stands beside them, of its one, on which nothing else is put."""
    extra = width - len(moments)
    return moments if not extra else torch.block_diag(moments, torch.eye(extra).to(moments))


def round_columns(
    weights: torch.Tensor,
    moments: torch.Tensor,
    round_first: Callable[[torch.Tensor], torch.Tensor],
    *,
    block: int = BLOCK,
) -> torch.Tensor:
    """Round an (outputs, inputs) matrix input by input, each as it has become when its turn comes.

    Parameters
    ----------
    weights
        The matrix.
    moments
        (inputs, inputs) E[x x^T], positive semidefinite.
    round_first
        Returns the (outputs,) values that the first of some columns is rounded to; the others are those after it in
        its block, as they have become by then.
    block
        Inputs after which what was lost is handed on to all later ones: it changes the time alone.

    Returns
    -------
    torch.Tensor
        (outputs, inputs), what each column was rounded to.

    References
    ----------
    GPTQ, arXiv 2210.17323, Algorithm 1.
    """
    work, factor, result = weights.clone(), _inverse_factor(moments).to(weights), torch.empty_like(weights)
    for start in range(0, weights.shape[1], block):
        part, inner = work[:, start : start + block], factor[start : start + block, start : start + block]
        lost = torch.empty_like(part)
        for place in range(part.shape[1]):
            result[:, start + place] = round_first(part[:, place:])
            lost[:, place] = (part[:, place] - result[:, start + place]) / inner[place, place]
            part[:, place + 1 :].addr_(lost[:, place], inner[place, place + 1 :], alpha=-1)
        stop = start + part.shape[1]
        work[:, stop:].addmm_(lost, factor[start:stop, stop:], alpha=-1)
    return result


def _inverse_factor(moments: torch.Tensor) -> torch.Tensor:
    """Upper Cholesky factor U of the inverse, U^T U = (M + damping)^-1, in float64."""
    damped = moments.double()
    mean = float(damped.diagonal().mean()) or 1.0
    damped = damped + DAMPING * mean * torch.eye(len(damped), dtype=torch.float64, device=damped.device)
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
