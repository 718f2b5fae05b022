"""Neural Wasserstein Barycenter: a generator of the barycenter, and a pair of convex potentials for every marginal."""

from __future__ import annotations

import torch
from torch import Tensor

from ..networks import Generator, StackedICNN
from ._base import SOLVERS
from ._minmaxmin import MinMaxMin, MinMaxMinSettings


@SOLVERS.register("nwb")
class NWB(MinMaxMin[MinMaxMinSettings]):
    """The barycenter for one weight vector; with one marginal, a generative model of it.

    References
    ----------
    Fan, Taghvaei and Chen (2021): equations (9) and (10), Algorithm 1.
    """

    name, title = "nwb", "NWB"
    reference = "Fan, Taghvaei and Chen, ICML 2021"
    settings_type = MinMaxMinSettings

    def _build(self) -> None:
        settings, dimension = self.settings, self.problem.dimension
        widths, count = [settings.width] * settings.depth, len(self.problem)
        self.latent = settings.latent or dimension
        self.f = self.register_network("f", StackedICNN(count, dimension, widths))
        self.g = self.register_network("g", StackedICNN(count, dimension, widths))
        sizes = [self.latent, *[settings.width] * (settings.depth + 1), dimension]
        self.h = self.register_network("h", Generator(sizes, normalise=settings.normalise))

    def _draw_weights(self) -> Tensor:
        return self.problem.weights.view(1, -1)

    def _conditions(self, weights: Tensor) -> tuple[Tensor, ...]:
        return ()

    def generate(self, noise: Tensor, weights: Tensor) -> Tensor:
        """Map (1, M, latent) noise to the barycenter."""
        return self.h(noise[0]).unsqueeze(0)

    def sample(self, count: int, *, seed: int = 1) -> Tensor:
        """Draw from the generator h."""
        return self._generate_samples(count, self.problem.weights, seed=seed)

    @torch.no_grad()
    def push(self, points: Tensor) -> Tensor:
        """Map points of the marginals by the gradients of g_i."""
        return self.g.gradient(points)

    @torch.no_grad()
    def back(self, points: Tensor) -> Tensor:
        """Map (M, D) points of the barycenter to every marginal by the gradients of f_i: (N, M, D)."""
        return self.f.gradient(points.expand(len(self.problem), *points.shape))
