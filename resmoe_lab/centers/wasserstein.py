"""The free-support Wasserstein barycenter of the experts: ResMoE's own center."""

from __future__ import annotations

from ._barycenter import BarycenterMethod
from ._base import CENTERS


@CENTERS.register("wasserstein")
class Wasserstein(BarycenterMethod):
    """Find the Wasserstein barycenter of the neuron clouds and the permutations onto it; all experts count alike.

    References
    ----------
    ResMoE, Algorithm 1 and Proposition 4.1.
    """

    name = "wasserstein"
