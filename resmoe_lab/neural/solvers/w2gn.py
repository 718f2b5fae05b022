"""W2GN: a generative model by the optimal transport map from Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks import StackedICNN
from ._base import SOLVERS, Settings, Solver, check_single_marginal, seeded_noise


@dataclass(frozen=True)
class W2GNSettings(Settings):
    """Settings of :class:`W2GN`.

    Parameters
    ----------
    batch
        Batch size.
    width, depth
        Size of both potentials.
    cycle
        Weight of the cycle penalty, which makes them conjugate.
    """

    batch: int = 256
    learning_rate: float = 5e-3
    width: int = 64
    depth: int = 3
    cycle: float = 10.0


@SOLVERS.register("w2gn")
class W2GN(Solver[W2GNSettings]):
    """A convex potential on the noise and its conjugate on the data of one marginal, with a cycle penalty.

    References
    ----------
    Korotin et al., Wasserstein-2 generative networks (2021).
    """

    name, title = "w2gn", "W2GN"
    reference = "Korotin et al., ICLR 2021"
    settings_type = W2GNSettings
    has_maps = False

    def _build(self) -> None:
        check_single_marginal(self.problem, self.name)
        settings, dimension = self.settings, self.problem.dimension
        self.forward_potential = self.register_network(
            "there", StackedICNN(1, dimension, [settings.width] * settings.depth)
        )
        self.backward_potential = self.register_network(
            "back", StackedICNN(1, dimension, [settings.width] * settings.depth)
        )

    def _step(self) -> float:
        noise = self.noise(1, self.settings.batch, self.problem.dimension)
        points = self.draw()
        images = self.backward_potential.gradient(points)
        detached = images.detach()
        dual = (
            self.forward_potential(noise).mean()
            + ((points * detached).sum(dim=-1) - self.forward_potential(detached)).mean()
        )
        cycle = (self.forward_potential.gradient(images) - points).square().sum(dim=-1).mean()
        loss = dual + 0.5 * self.settings.cycle * cycle
        return self.minimize(loss)

    @torch.no_grad()
    def sample(self, count: int, *, seed: int = 1) -> Tensor:
        """Draw noise and map it by the gradient of the potential."""
        return self.forward_potential.gradient(seeded_noise(1, count, self.problem.dimension, seed=seed))[0]
