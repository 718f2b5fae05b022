"""Neural Wasserstein Barycenter: a generator of the barycenter, and a pair of convex potentials for every marginal."""

from __future__ import annotations

import torch
from torch import Tensor

from ..networks import Generator, StackedICNN
from ._base import SOLVERS
from ._minmaxmin import MinMaxMin, MinMaxMinSettings


@SOLVERS.register("nwb")
class NWB(MinMaxMin[MinMaxMinSettings]):
    """The barycenter under one vector of weights; with one marginal, a generative model of it.

    References
    ----------
    Fan, Taghvaei and Chen (2021): equations (9) and (10), Algorithm 1.
    """

    name, title = "nwb", "NWB"
    reference = "Fan, Taghvaei and Chen, ICML 2021"
    settings_type = MinMaxMinSettings

    def _build(self) -> None:
        chosen, dimension = self.settings, self.problem.dimension
        widths, count = [chosen.width] * chosen.depth, len(self.problem)
        self.latent = chosen.latent or dimension
        self.f = self.learn("f", StackedICNN(count, dimension, widths))
        self.g = self.learn("g", StackedICNN(count, dimension, widths))
        sizes = [self.latent, *[chosen.width] * (chosen.depth + 1), dimension]
        self.h = self.learn("h", Generator(sizes, normalise=chosen.normalise))

    def _choose(self) -> Tensor:
        return self.problem.weights.view(1, -1)

    def _told(self, weights: Tensor) -> tuple[Tensor, ...]:
        return ()

    def generate(self, noise: Tensor, weights: Tensor) -> Tensor:
        """Map (1, M, latent) noise to the barycenter."""
        return self.h(noise[0]).unsqueeze(0)

    def sample(self, count: int, *, seed: int = 1) -> Tensor:
        """Draw from the generator, h pushed forward."""
        return self._sampled(count, self.problem.weights, seed=seed)

    @torch.no_grad()
    def push(self, points: Tensor) -> Tensor:
        """Map by the gradient of g_i."""
        return self.g.gradient(points)

    @torch.no_grad()
    def back(self, points: Tensor) -> Tensor:
        """Map (M, D) points of the barycenter to every marginal by the gradient of f_i: (N, M, D)."""
        return self.f.gradient(points.expand(len(self.problem), *points.shape))
