"""What a compressed layer costs to run, counted from shapes."""

from __future__ import annotations

from ..methods import CompressedLayer
from ..store.formats import FORMATS

#: Multiplications and additions in one of the paper's multiply-accumulates.
_BOTH = 2


def layer_flops(layer: CompressedLayer, *, top_k: int) -> float:
    """Return the FLOPs that one token costs in a compressed layer's experts, as the factored runtime computes them.

    Every selected expert costs what is stored of it (a mean, where experts differ), the center is computed once for all
    of them.

    Parameters
    ----------
    layer
        The compressed experts.
    top_k
        Experts that a token selects.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> from resmoe_lab.analysis.flops import layer_flops
    >>> stack = rl.load_stack(rl.open_checkpoint("mixtral-tiny"), layer=0)
    >>> half = layer_flops(rl.compress_layer(stack, method="up", keep=0.5), top_k=2)
    >>> half == 2 * 2 * stack.weights[0].numel() / 2
    True
    """
    costs = FORMATS[layer.layout.format].multiplications(layer.layout)
    owners = range(len(costs)) if layer.groups is None else layer.groups
    mean = sum(costs[stored] for stored in owners) / layer.num_experts
    center = 0 if layer.center is None else layer.shape.intermediate_size * layer.shape.width
    return _BOTH * (top_k * mean + center)
