"""GPTQ: weights are rounded input by input, and those that are left make up for what was lost."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from .._core.errors import ResmoeWarning, UsageError
from ..centers import Center, Statistics
from ..experts import ExpertStack
from ..store.groups import affine_range, from_codes, to_codes
from ..store.matrices import QuantizedBlock
from ._base import METHODS
from ._quantizers import QuantizingMethod
from .rtn import round_to_nearest

#: Added to the diagonal of the second moments, as a share of its mean.
DAMPING = 0.01
#: Inputs after which what was lost is handed on to all later ones.
BLOCK = 128
#: An expert that fewer calibration tokens reach is rounded to nearest.
LEAST_TOKENS = 128


@METHODS.register("gptq", title="GPTQ", reference="arXiv 2210.17323")
class Gptq(QuantizingMethod):
    """Round with error compensation by the second moments that every expert's own tokens have.

    The moments of one layer take 4 N (p^2 + p_I^2) bytes beside its experts, and the inverse of the largest of them
    8 bytes an entry more while it is used. Inputs keep their order.
    """

    needs_statistics = True
    needs_moments = True

    def round_matrix(self, weights: torch.Tensor, bits: int, moments: torch.Tensor | None) -> QuantizedBlock:
        """Compensate, or round to nearest where an expert saw too little text."""
        if moments is None:
            return round_to_nearest(weights, bits, self.group)
        return round_compensated(weights, moments, bits=bits, group=self.group)

    def hints(self, stack: ExpertStack, center: Center | None, statistics: Statistics | None) -> Iterator[Any]:
        """Yield the columns of each weight matrix and the second moments of what it is multiplied with.

        Raises
        ------
        UsageError
            If the statistics lack the moments, or no expert was reached by enough tokens.
        """
        widths = stack.checked().shape.widths
        tokens = _reached(stack, statistics)
        for k, count in enumerate(tokens):
            moments: Sequence[torch.Tensor | None] = (None,) * len(widths)
            if count >= LEAST_TOKENS:
                assert statistics is not None
                assert statistics.input_moments is not None
                assert statistics.neuron_moments is not None
                inputs = statistics.input_moments[k]
                moments = [*(_with_bias(inputs, width) for width in widths[:-1]), statistics.neuron_moments[k]]
            yield widths, moments


def _reached(stack: ExpertStack, statistics: Statistics | None) -> list[int]:
    """How many tokens reached each expert; warn of those that are rounded to nearest."""
    if statistics is None or statistics.expert_tokens is None or statistics.input_moments is None:
        raise UsageError("method 'gptq' needs full second moments and has none: calibrate(..., moments=True)")
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


def round_compensated(
    weights: torch.Tensor, moments: torch.Tensor, *, bits: int, group: int, block: int = BLOCK
) -> QuantizedBlock:
    """Round an (outputs, inputs) matrix so that its products with the inputs change little.

    Parameters
    ----------
    weights
        The matrix.
    moments
        (inputs, inputs) E[x x^T], positive semidefinite.
    bits, group
        Of a code, and inputs that share a scale: the scale is taken when their turn comes, from the weights as they
        have become by then.
    block
        Inputs after which what was lost is handed on to all later ones: it changes the time alone.

    References
    ----------
    GPTQ, arXiv 2210.17323, Algorithm 1 (with groups as in section 4.3 and a damping of 1 %).
    """
    work, factor = weights.clone(), _inverse_factor(moments).to(weights)
    codes, scales, zeros = torch.empty_like(weights, dtype=torch.uint8), list[torch.Tensor](), list[torch.Tensor]()
    block = group * max(1, block // group)
    for start in range(0, weights.shape[1], block):
        part, inner = work[:, start : start + block], factor[start : start + block, start : start + block]
        lost = torch.empty_like(part)
        for place in range(part.shape[1]):
            if place % group == 0:
                scale, zero = affine_range(part[:, place : place + group], bits)
                scales.append(scale)
                zeros.append(zero)
            code = to_codes(part[:, place, None], scale, zero, bits=bits)
            rounded = from_codes(code, scale[:, None], zero[:, None], group=1)[:, 0]
            codes[:, start + place] = code[:, 0]
            lost[:, place] = (part[:, place] - rounded) / inner[place, place]
            part[:, place + 1 :].addr_(lost[:, place], inner[place, place + 1 :], alpha=-1)
        stop = start + part.shape[1]
        work[:, stop:].addmm_(lost, factor[start:stop, stop:], alpha=-1)
    return QuantizedBlock(codes, torch.stack(scales, dim=1), torch.stack(zeros, dim=1), group)


def _inverse_factor(moments: torch.Tensor) -> torch.Tensor:
    """Upper Cholesky factor U of the inverse, U^T U = (M + damping)^-1, in float64."""
    damped = moments.double()
    mean = float(damped.diagonal().mean()) or 1.0
    damped = damped + DAMPING * mean * torch.eye(len(damped), dtype=torch.float64, device=damped.device)
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
