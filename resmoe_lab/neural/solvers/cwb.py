"""CWB: conjugate pairs of convex potentials, held together by penalties instead of a minimax game."""

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
    """Of :class:`CWB`.

    Parameters
    ----------
    batch
        Points of every marginal a batch.
    width, depth
        Of all networks; width 0 is the larger of 64 and twice the dimension.
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
    r"""psi_i maps marginal i to the barycenter, its conjugate phi_i maps back.

    .. math:: \sum_i a_i E[\langle x, \nabla\psi_i(x)\rangle - \varphi_i(\nabla\psi_i(x))]
              + \tau E_{\hat P}[(\sum_i a_i \varphi_i(y) - \tfrac12 |y|^2)_+]
              + \lambda \sum_i a_i E|\nabla\varphi_i(\nabla\psi_i(x)) - x|^2

    The images under psi_i in the first sum are taken as given, as their derivative vanishes for conjugate pairs. The
    prior P-hat is the barycenter of Gaussians with the marginals' moments.

    References
    ----------
    Korotin et al., Continuous Wasserstein-2 barycenter estimation without minimax optimization (2021), equation (14).
    """

    name, title = "cwb", "CWB"
    reference = "Korotin et al., ICLR 2021"
    settings_type = CWBSettings

    def _build(self) -> None:
        chosen, dimension, count = self.settings, self.problem.dimension, len(self.problem)
        widths = [chosen.width or max(64, 2 * dimension)] * chosen.depth
        self.there = self.learn("there", StackedICNN(count, dimension, widths))
        self.back = self.learn("back", StackedICNN(count, dimension, widths))
        self.prior = Gaussian(*gaussian_barycenter(self.problem))

    def _step(self) -> float:
        chosen, shares = self.settings, self.problem.weights
        points = self.draw()
        images = self.there.gradient(points)
        given = images.detach()
        dual = ((points * given).sum(dim=-1) - self.back(given)).mean(dim=1)
        cycle = (self.back.gradient(images) - points).square().sum(dim=-1).mean(dim=1)
        places = self.prior.sample(chosen.batch, self.generator)
        whole = torch.einsum("n,nm->m", shares, self.back(places.expand(len(shares), *places.shape)))
        excess = (whole - 0.5 * places.square().sum(dim=1)).clamp(min=0).mean()
        loss = (shares * (dual + chosen.cycle * cycle)).sum() + chosen.congruence * excess
        return self.descend(loss)

    @torch.no_grad()
    def push(self, points: Tensor) -> Tensor:
        """Map by the gradient of psi_i."""
        return self.there.gradient(points)
