"""CWB: conjugate pairs of convex potentials, with penalties instead of a minimax problem."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..metrics import gaussian_barycenter
from ..networks import StackedICNN
from ..problem import Gaussian
from ._base import SOLVERS, Settings, Solver


@dataclass(frozen=True)
class CWBSettings(Settings):
    """Settings of :class:`CWB`.

    Parameters
    ----------
    batch
        Number of points of every marginal in a batch.
    width, depth
        Size of all networks; width 0: the larger of 64 and twice the dimension.
    congruence, cycle
        Weights of the two penalties (tau and lambda).
    """

    batch: int = 256
    learning_rate: float = 5e-3
    width: int = 0
    depth: int = 3
    congruence: float = 5.0
    cycle: float = 10.0


@SOLVERS.register("cwb")
class CWB(Solver[CWBSettings]):
    r"""psi_i maps marginal i to the barycenter, its conjugate phi_i maps backward_potentials.

    .. math:: \sum_i a_i E[\langle x, \nabla\psi_i(x)\rangle - \varphi_i(\nabla\psi_i(x))]
              + \tau E_{\hat P}[(\sum_i a_i \varphi_i(y) - \tfrac12 |y|^2)_+]
              + \lambda \sum_i a_i E|\nabla\varphi_i(\nabla\psi_i(x)) - x|^2

    The images under psi_i in the first sum are detached, as their derivative vanishes for conjugate pairs. The
    prior P-hat is the barycenter of Gaussians with the marginals' moments.

    References
    ----------
    Korotin et al., Continuous Wasserstein-2 barycenter estimation without minimax optimization (2021), equation (14).
    """

    name, title = "cwb", "CWB"
    reference = "Korotin et al., ICLR 2021"
    settings_type = CWBSettings

    def _build(self) -> None:
        settings, dimension, count = self.settings, self.problem.dimension, len(self.problem)
        widths = [settings.width or max(64, 2 * dimension)] * settings.depth
        self.forward_potentials = self.register_network("there", StackedICNN(count, dimension, widths))
        self.backward_potentials = self.register_network("back", StackedICNN(count, dimension, widths))
        self.prior = Gaussian(*gaussian_barycenter(self.problem))

    def _step(self) -> float:
        settings, weights = self.settings, self.problem.weights
        points = self.draw()
        images = self.forward_potentials.gradient(points)
        detached = images.detach()
        dual = ((points * detached).sum(dim=-1) - self.backward_potentials(detached)).mean(dim=1)
        cycle = (self.backward_potentials.gradient(images) - points).square().sum(dim=-1).mean(dim=1)
        prior_points = self.prior.sample(settings.batch, self.generator)
        total = torch.einsum(
            "n,nm->m", weights, self.backward_potentials(prior_points.expand(len(weights), *prior_points.shape))
        )
        excess = (total - 0.5 * prior_points.square().sum(dim=1)).clamp(min=0).mean()
        loss = (weights * (dual + settings.cycle * cycle)).sum() + settings.congruence * excess
        return self.minimize(loss)

    @torch.no_grad()
    def push(self, points: Tensor) -> Tensor:
        """Map by the gradient of psi_i."""
        return self.forward_potentials.gradient(points)
