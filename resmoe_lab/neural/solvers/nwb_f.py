"""NWB-F: the barycenters of all weights from one training."""

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
    """Of :class:`NWBF`.

    Parameters
    ----------
    width
        Neurons a hidden layer.
    weightings
        Vectors of weights drawn for each outer iteration (B); the paper draws one.
    """

    learning_rate: float = 2e-3
    width: int = 16
    weightings: int = 4


@SOLVERS.register("nwb-f")
class NWBF(MinMaxMin[NWBFSettings]):
    """h(z, a), f_i(x, a) and g_i(y, a) know the weights a, which are drawn uniformly from the simplex.

    f and g are convex in the points only, not in the weights.

    References
    ----------
    Fan, Taghvaei and Chen (2021), supplement B: equations (12) and (13), Algorithm 2.
    """

    name, title = "nwb-f", "NWB-F"
    reference = "Fan, Taghvaei and Chen, ICML 2021, supplement B"
    settings_type = NWBFSettings

    def _build(self) -> None:
        chosen, dimension, count = self.settings, self.problem.dimension, len(self.problem)
        widths = [chosen.width] * chosen.depth
        self.latent = chosen.latent or dimension
        self.f = self.learn("f", StackedPICNN(count, dimension, widths, condition=count))
        self.g = self.learn("g", StackedPICNN(count, dimension, widths, condition=count))
        sizes = [self.latent + count, *[2 * chosen.width] * (chosen.depth + 1), dimension]
        self.h = self.learn("h", Generator(sizes, normalise=chosen.normalise))

    def _choose(self) -> Tensor:
        # Uniform on the simplex: exponential variables over their sum.
        drawn = torch.empty(self.settings.weightings, len(self.problem)).exponential_(generator=self.generator)
        return drawn / drawn.sum(dim=1, keepdim=True)

    def _told(self, weights: Tensor) -> tuple[Tensor, ...]:
        return (weights,)

    def generate(self, noise: Tensor, weights: Tensor) -> Tensor:
        """Map (B, M, latent) noise to the barycenters of (B, N) weights."""
        told = torch.cat([noise, weights.unsqueeze(1).expand(-1, noise.shape[1], -1)], dim=-1)
        return self.h(told.flatten(0, 1)).view(*noise.shape[:2], -1)

    def sample(self, count: int, *, seed: int = 1, weights: Sequence[float] | Tensor | None = None) -> Tensor:
        """Draw from the barycenter of any weights; the problem's own by default."""
        return self._sampled(count, self._weights(weights), seed=seed)

    def probe(self) -> Tensor:
        """As of :class:`Solver`, under the weights of the problem and near every corner."""
        count = len(self.problem)
        corners = [0.8 * torch.eye(count)[i] + 0.2 / count for i in range(count)]
        return torch.cat([self.sample(128, seed=2, weights=w) for w in (self.problem.weights, *corners)])

    @torch.no_grad()
    def push(self, points: Tensor, *, weights: Sequence[float] | Tensor | None = None) -> Tensor:
        """Map by the gradient of g_i under any weights."""
        return self.g.gradient(points, self._weights(weights).view(1, -1))

    def _weights(self, weights: Sequence[float] | Tensor | None) -> Tensor:
        return self.problem.weights if weights is None else check_weights(weights, len(self.problem))
