"""Every weight rounded to a multiple of a step and entropy-coded: of each expert, or of its residual from a center."""

from __future__ import annotations

from dataclasses import replace

from ..centers import Center
from ..experts import ExpertStack
from ._coded import CENTER_FACTORS, CodingMethod
from ._coding import byte_budget
from ._registry import METHODS


@METHODS.register("coded", title="Coded", reference="entropy-constrained scalar quantization, rANS")
@METHODS.register(
    "resmoe-coded",
    title="ResMoE (coded)",
    reference="ResMoE, Algorithm 1, with entropy-coded residuals in place of pruned ones",
    uses_center=True,
)
class CodedMethod(CodingMethod):
    """Round every weight, or residual, by itself."""


def center_saving(stack: ExpertStack, center: Center, *, bits: float = 2.0) -> float:
    """Return how many bits a weight a center saves a coded layer at the same error, its own bits paid.

    Parameters
    ----------
    stack
        The experts.
    center
        Their center.
    bits
        What the layer takes without it; the saving hardly depends on that where it is 2 or more.

    Returns
    -------
    float
        Below zero where the center costs more than it saves.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> stack = rl.load_stack(rl.open_checkpoint("mixtral-tiny"), layer=0)
    >>> 0.3 < center_saving(stack, rl.find_center(stack)) < 0.9
    True
    """
    method = METHODS["resmoe-coded"]()
    assert isinstance(method, CodingMethod)
    look = method.look(stack, center, None)
    alone, together = look.alone, look.together
    if together is None:
        return 0.0
    # Headers come on top, so that layers of a few hundred weights can be told about too.
    plain = alone.fitted(byte_budget(stack.shape, bits / 16) + alone.least_bytes, method.name)
    plans = (replace(together, center_factor=factor).with_error(plain.error) for factor in CENTER_FACTORS)
    weights = plain.weights * stack.num_experts
    return 8 * (plain.nbytes(plain.step) - min(plan.nbytes(plan.step) for plan in plans)) / weights
