"""Half-quadratic quantization: the zero of every group is moved until few weights are far off; no data is needed."""

from __future__ import annotations

import torch

from ..store.groups import join_groups, split_groups, stored_float, to_codes
from ..store.quantized_matrices import QuantizedBlock
from ._quantizers import QuantizingMethod
from ._registry import METHODS

#: The norm's power p, the weight beta of the quadratic term, and the most steps.
POWER, BETA, STEPS = 0.7, 10.0, 20
#: A group of a smaller range has a step of one, and no step is smaller than one over this.
_LEAST_RANGE, _MOST_STEPS = 1e-4, 2e4


@METHODS.register("hqq", title="HQQ", reference="Badri and Shaji 2023, Half-Quadratic Quantization")
@METHODS.register("resmoe-hqq", title="ResMoE (HQQ)", reference="HQQ of the residuals from a center", uses_center=True)
class HalfQuadratic(QuantizingMethod):
    """Minimise the p-norm of what rounding loses over the zeros, p < 1, so that outliers do not decide."""

    def round_matrix(self, weights: torch.Tensor, bits: int, moments: torch.Tensor | None) -> QuantizedBlock:
        """Find the zeros, round them as they are stored, and round the weights with those."""
        groups = split_groups(weights, self.group)
        steps, zero = half_quadratic(groups, bits, last=weights.shape[1] % self.group or self.group)
        scale, zero = stored_float(1 / steps), stored_float(zero)
        codes = to_codes(groups, scale, zero, bits=bits)
        return QuantizedBlock(join_groups(codes, weights.shape[1]), scale, zero, self.group)


def half_quadratic(groups: torch.Tensor, bits: int, *, last: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the steps of a unit and the zero of every group, (rows, G) each: a code is ``round(w * steps + zero)``.

    Parameters
    ----------
    groups
        (rows, G, group) weights of one matrix.
    bits
        Of a code.
    last
        How many weights of the last group count; the others fill it up.

    References
    ----------
    Badri and Shaji, Half-Quadratic Quantization of Large Machine Learning Models, 2023
    (mobiusml.github.io/hqq_blog), equations of the two sub-problems. Constants and the stopping rule are those of the
    package ``hqq`` 0.2.8, with which this agrees: it keeps beta, which the text lets grow by a hundredth in each step.
    """
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    most = 2**bits - 1
    steps = torch.where(high - low <= _LEAST_RANGE, 1.0, most / (high - low)).clamp(max=_MOST_STEPS)
    zero, best = -low * steps, torch.inf
    for _ in range(STEPS):
        codes = (groups * steps + zero).round_().clamp_(0, most)
        lost = groups - (codes - zero) / steps
        zero = _mean(codes - (groups - _shrink(lost)) * steps, last)
        error = float(_mean_size(lost, last))
        if error >= best:
            break
        best = error
    return steps[..., 0], zero[..., 0]


def _shrink(values: torch.Tensor) -> torch.Tensor:
    """The generalised soft threshold: what minimises ``|e|^p + beta / 2 (e - x)^2``, to first order."""
    size = values.abs()
    return (size - (1 / BETA) * size.pow(POWER - 1)).clamp_(min=0) * values.sign()


def _mean_size(lost: torch.Tensor, last: int) -> torch.Tensor:
    """Mean magnitude of what is lost over all weights of the matrix."""
    if last == lost.shape[-1]:
        return lost.abs().mean()
    return torch.cat([lost[:, :-1].flatten(1), lost[:, -1, :last]], dim=1).abs().mean()


def _mean(values: torch.Tensor, last: int) -> torch.Tensor:
    """Mean of every group, of the last one over the weights that count."""
    mean = values.mean(-1, keepdim=True)
    if last != values.shape[-1]:
        mean[:, -1] = values[:, -1, :last].mean(-1, keepdim=True)
    return mean
