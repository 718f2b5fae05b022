"""CRWB: the regularized dual, with a penalty on potentials whose sum exceeds the cost."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks import StackedMLP
from ..problem import Gaussian
from ._base import SOLVERS, Settings, Solver
from ._congruent import CongruentPotentials


@dataclass(frozen=True)
class CRWBSettings(Settings):
    """Settings of :class:`CRWB`.

    Parameters
    ----------
    batch
        Number of points of every marginal, and of the prior, in a batch.
    epsilon
        Weight of the quadratic regularization. The bias grows with it: on Gaussians in eight dimensions 13 % of the
        variance at 1e-2, 5 % at 1e-3, 2 % at 1e-4.
    width, depth
        Size of all networks; width 0: the larger of 128 and twice the dimension.
    """

    batch: int = 512
    learning_rate: float = 5e-3
    epsilon: float = 1e-4
    width: int = 0
    depth: int = 3


@SOLVERS.register("crwb")
class CRWB(Solver[CRWBSettings]):
    r"""Maximum over f_i and congruent g_i, with a prior eta on the barycenter's space.

    .. math:: \sum_i a_i E_{\mu_i} f_i(x) - \frac{1}{4 \epsilon} \sum_i a_i
              E_{\mu_i \times \eta} (f_i(x) + g_i(y) - \tfrac12 |x - y|^2)_+^2

    The prior is a Gaussian with the moments of the marginals' mixture; the maps are x - grad f_i(x).

    References
    ----------
    Li, Genevay, Yurochkin and Solomon, Continuous regularized Wasserstein barycenters (2020), quadratic regularization.
    """

    name, title = "crwb", "CRWB"
    reference = "Li et al., NeurIPS 2020"
    settings_type = CRWBSettings

    def _build(self) -> None:
        settings, dimension = self.settings, self.problem.dimension
        widths = [settings.width or max(128, 2 * dimension)] * settings.depth
        self.f = self.register_network("f", StackedMLP(len(self.problem), [dimension, *widths, 1], quadratic=True))
        self.g = self.register_network("g", CongruentPotentials(self.problem.weights, dimension, widths))
        means, covariances = self.problem.moments()
        weights = self.problem.weights.double()
        center = weights @ means
        between = torch.einsum("n,nd,ne->de", weights, means - center, means - center)
        self.prior = Gaussian(center, torch.einsum("n,nde->de", weights, covariances) + between)

    def _step(self) -> float:
        weights, points = self.problem.weights, self.draw()
        prior_points = self.prior.sample(self.settings.batch, self.generator).expand_as(points)
        potential = self.f(points).squeeze(-1)
        excess = potential + self.g(prior_points) - 0.5 * (points - prior_points).square().sum(dim=-1)
        penalty = excess.clamp(min=0).square().mean(dim=1) / (4 * self.settings.epsilon)
        return self.minimize((weights * (penalty - potential.mean(dim=1))).sum())

    def push(self, points: Tensor) -> Tensor:
        """Map by x - grad f_i(x)."""
        return points - self.f.input_gradient(points)
