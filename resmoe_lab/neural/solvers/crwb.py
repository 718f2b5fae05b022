"""CRWB: the regularised dual, with a soft penalty where potentials together exceed the cost."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks import StackedMLP
from ..problem import Gaussian
from ._base import SOLVERS, Settings, Solver
from ._congruent import Congruent


@dataclass(frozen=True)
class CRWBSettings(Settings):
    """Of :class:`CRWB`.

    Parameters
    ----------
    batch
        Points of every marginal a batch, and as many of the prior.
    epsilon
        Strength of the quadratic regularisation. The bias grows with it: on Gaussians in eight dimensions 13 % of the
        variance at 1e-2, 5 % at 1e-3, 2 % at 1e-4.
    width, depth
        Of all networks; width 0 is the larger of 128 and twice the dimension.
    """

    batch: int = 512
    learning_rate: float = 5e-3
    epsilon: float = 1e-4
    width: int = 0
    depth: int = 3


@SOLVERS.register("crwb")
class CRWB(Solver[CRWBSettings]):
    r"""max over f_i and congruent g_i, eta a prior on the barycenter's space.

    .. math:: \sum_i a_i E_{\mu_i} f_i(x) - \frac{1}{4 \epsilon} \sum_i a_i
              E_{\mu_i \times \eta} (f_i(x) + g_i(y) - \tfrac12 |x - y|^2)_+^2

    The prior is a Gaussian with the moments of all marginals together; points go to x - grad f_i(x).

    References
    ----------
    Li, Genevay, Yurochkin and Solomon, Continuous regularized Wasserstein barycenters (2020), quadratic regularisation.
    """

    name, title = "crwb", "CRWB"
    reference = "Li et al., NeurIPS 2020"
    settings_type = CRWBSettings

    def _build(self) -> None:
        chosen, dimension = self.settings, self.problem.dimension
        widths = [chosen.width or max(128, 2 * dimension)] * chosen.depth
        self.f = self.learn("f", StackedMLP(len(self.problem), [dimension, *widths, 1], quadratic=True))
        self.g = self.learn("g", Congruent(self.problem.weights, dimension, widths))
        means, covariances = self.problem.moments()
        shares = self.problem.weights.double()
        center = shares @ means
        apart = torch.einsum("n,nd,ne->de", shares, means - center, means - center)
        self.prior = Gaussian(center, torch.einsum("n,nde->de", shares, covariances) + apart)

    def _step(self) -> float:
        shares, points = self.problem.weights, self.draw()
        places = self.prior.sample(self.settings.batch, self.generator).expand_as(points)
        own = self.f(points).squeeze(-1)
        excess = own + self.g(places) - 0.5 * (points - places).square().sum(dim=-1)
        penalty = excess.clamp(min=0).square().mean(dim=1) / (4 * self.settings.epsilon)
        return self.descend((shares * (penalty - own.mean(dim=1))).sum())

    def push(self, points: Tensor) -> Tensor:
        """Map by x - grad f_i(x)."""
        return points - self.f.slope(points)
