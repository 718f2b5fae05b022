"""W2GN: a generative model that is the optimal transport map from Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks import StackedICNN
from ._base import SOLVERS, Settings, Solver, fixed_noise, only_one


@dataclass(frozen=True)
class W2GNSettings(Settings):
    """Of :class:`W2GN`.

    Parameters
    ----------
    batch
        Points a batch.
    width, depth
        Of both potentials.
    cycle
        Weight of the penalty that makes them conjugate.
    """

    batch: int = 256
    learning_rate: float = 5e-3
    width: int = 64
    depth: int = 3
    cycle: float = 10.0


@SOLVERS.register("w2gn")
class W2GN(Solver[W2GNSettings]):
    """One marginal, a convex potential on the noise and its conjugate on the data, with a cycle penalty.

    References
    ----------
    Korotin et al., Wasserstein-2 generative networks (2021).
    """

    name, title = "w2gn", "W2GN"
    reference = "Korotin et al., ICLR 2021"
    settings_type = W2GNSettings
    has_maps = False

    def _build(self) -> None:
        only_one(self.problem, self.name)
        chosen, dimension = self.settings, self.problem.dimension
        self.there = self.learn("there", StackedICNN(1, dimension, [chosen.width] * chosen.depth))
        self.back = self.learn("back", StackedICNN(1, dimension, [chosen.width] * chosen.depth))

    def _step(self) -> float:
        noise = self.noise(1, self.settings.batch, self.problem.dimension)
        points = self.draw()
        images = self.back.gradient(points)
        given = images.detach()
        dual = self.there(noise).mean() + ((points * given).sum(dim=-1) - self.there(given)).mean()
        cycle = (self.there.gradient(images) - points).square().sum(dim=-1).mean()
        loss = dual + 0.5 * self.settings.cycle * cycle
        return self.descend(loss)

    @torch.no_grad()
    def sample(self, count: int, *, seed: int = 1) -> Tensor:
        """Draw noise and map it by the gradient of the potential."""
        return self.there.gradient(fixed_noise(1, count, self.problem.dimension, seed=seed))[0]
