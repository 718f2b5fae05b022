"""MEO: experts merged by their gate's weights, neuron by neuron as they stand."""

from ._merging import MergingMethod
from ._registry import METHODS


@METHODS.register("meo", title="MEO", reference="arXiv 2310.09832; ResMoE, appendix A.3")
class MEO(MergingMethod):
    """Average the experts of a group, unaligned, by the share of the tokens that each receives.

    The original merges the experts that one input selects, by their gate's scores, whenever it runs; stored once for
    all inputs, a group's scores become the experts' mean shares.
    """

    weighted = True
