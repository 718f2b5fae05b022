"""NWB-F: the barycenters of all weight vectors from one training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks import Generator, StackedPICNN
from ..problem import check_weights
from ._base import SOLVERS
from ._minmaxmin import MinMaxMin, MinMaxMinSettings


@dataclass(frozen=True)
class NWBFSettings(MinMaxMinSettings):
    """Settings of :class:`NWBF`.

    Parameters
    ----------
    width
        Width of the hidden layers.
    weightings
        Number of weight vectors that are exponentials for each outer iteration (B); the paper draws one.
    """

    learning_rate: float = 2e-3
    width: int = 16
    weightings: int = 4


@SOLVERS.register("nwb-f")
class NWBF(MinMaxMin[NWBFSettings]):
    """Networks h(z, a), f_i(x, a) and g_i(y, a) of the weights a, which are exponentials uniformly from the simplex.

    f and g are convex in the points only, not in the weights.

    References
    ----------
    Fan, Taghvaei and Chen (2021), supplement B: equations (12) and (13), Algorithm 2.
    """

    name, title = "nwb-f", "NWB-F"
    reference = "Fan, Taghvaei and Chen, ICML 2021, supplement B"
    settings_type = NWBFSettings

    def _build(self) -> None:
        settings, dimension, count = self.settings, self.problem.dimension, len(self.problem)
        widths = [settings.width] * settings.depth
        self.latent = settings.latent or dimension
        self.f = self.register_network("f", StackedPICNN(count, dimension, widths, condition=count))
        self.g = self.register_network("g", StackedPICNN(count, dimension, widths, condition=count))
        sizes = [self.latent + count, *[2 * settings.width] * (settings.depth + 1), dimension]
        self.h = self.register_network("h", Generator(sizes, normalise=settings.normalise))

    def _draw_weights(self) -> Tensor:
        # Exponential variables divided by their sum are uniform on the simplex.
        exponentials = torch.empty(self.settings.weightings, len(self.problem)).exponential_(generator=self.generator)
        return exponentials / exponentials.sum(dim=1, keepdim=True)

    def _conditions(self, weights: Tensor) -> tuple[Tensor, ...]:
        return (weights,)

    def generate(self, noise: Tensor, weights: Tensor) -> Tensor:
        """Map (B, M, latent) noise to the barycenters of (B, N) weights."""
        inputs = torch.cat([noise, weights.unsqueeze(1).expand(-1, noise.shape[1], -1)], dim=-1)
        return self.h(inputs.flatten(0, 1)).view(*noise.shape[:2], -1)

    def sample(self, count: int, *, seed: int = 1, weights: Sequence[float] | Tensor | None = None) -> Tensor:
        """Draw from the barycenter of any weights (default: the problem's)."""
        return self._generate_samples(count, self._weights(weights), seed=seed)

    def probe(self) -> Tensor:
        """See :class:`Solver`; for the weights of the problem and near every corner of the simplex."""
        count = len(self.problem)
        corners = [0.8 * torch.eye(count)[i] + 0.2 / count for i in range(count)]
        return torch.cat([self.sample(128, seed=2, weights=w) for w in (self.problem.weights, *corners)])

    @torch.no_grad()
    def push(self, points: Tensor, *, weights: Sequence[float] | Tensor | None = None) -> Tensor:
        """Map points of the marginals by the gradients of g_i for any weights."""
        return self.g.gradient(points, self._weights(weights).view(1, -1))

    def _weights(self, weights: Sequence[float] | Tensor | None) -> Tensor:
        return self.problem.weights if weights is None else check_weights(weights, len(self.problem))
