"""What NWB and NWB-F share: a generator against pairs of convex potentials, under one vector of weights or several."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..networks import Generator
from ._base import Settings, Solver, fixed_noise


@dataclass(frozen=True)
class MinMaxMinSettings(Settings):
    """Of :class:`MinMaxMin`.

    Parameters
    ----------
    batch
        M.
    inner, outer
        K1 updates of every g for one of f, and K2 of those for one of the generator.
    width, depth
        Neurons a hidden layer of every network, and the hidden layers of f and g; the generator has one more.
    penalty
        How much negative weights of g cost (lambda).
    latent
        Dimension of the generator's noise; 0 stands for that of the marginals.
    normalise
        Batch normalisation in the generator, as the paper has it.
    """

    batch: int = 100
    learning_rate: float = 5e-3
    inner: int = 6
    outer: int = 4
    width: int = 10
    depth: int = 3
    penalty: float = 0.1
    latent: int = 0
    normalise: bool = False


M = TypeVar("M", bound=MinMaxMinSettings)


class MinMaxMin(Solver[M]):
    r"""min over h, max over convex f_i, min over convex g_i, for B vectors of weights a.

    .. math:: \tfrac12 E|h(Z)|^2 + \sum_i a_i E[f_i(\nabla g_i(Y^i)) - \langle Y^i, \nabla g_i(Y^i)\rangle - f_i(h(Z))]

    No gradient is taken through more than one network: the loss depends on h and g_i only by the points that they give,
    and its derivative there is known in closed form from the potentials' gradients. Batches are drawn anew for every
    update of f, where the paper's algorithm keeps one for a whole outer iteration.

    Networks stand in the order of the weight vectors: number b * N + i is that of marginal i under weights b.
    """

    f: Any
    g: Any
    h: Generator
    latent: int

    @abstractmethod
    def _choose(self) -> Tensor:
        """Choose the (B, N) weights of one outer iteration."""

    @abstractmethod
    def _told(self, weights: Tensor) -> tuple[Tensor, ...]:
        """What f and g are told of the weights, after the points."""

    @abstractmethod
    def generate(self, noise: Tensor, weights: Tensor) -> Tensor:
        """Map (B, M, latent) noise to the barycenters of (B, N) weights."""

    def _step(self) -> float:
        weights = self._choose()
        told, shares = self._told(weights), weights.reshape(-1, 1, 1)
        repeats = len(weights)
        for _ in range(self.settings.outer):
            points = self.draw().repeat(repeats, 1, 1)
            for _ in range(self.settings.inner):
                self._lower(points, shares, told)
            with torch.no_grad():
                made = self._each(self.generate(self._noise(repeats), weights))
            self._raise(points, made, shares=shares, told=told)
        return self._improve(weights, told)

    def _noise(self, repeats: int) -> Tensor:
        return self.noise(repeats, self.settings.batch, self.latent)

    def _each(self, made: Tensor) -> Tensor:
        """Repeat (B, M, D) points for every marginal: (B * N, M, D)."""
        return made.repeat_interleave(len(self.problem), dim=0)

    def _lower(self, points: Tensor, shares: Tensor, told: tuple[Tensor, ...]) -> None:
        """Update every g to decrease the objective (10)."""
        images = self.g.gradient(points, *told)
        with torch.no_grad():
            slope = shares * (self.f.gradient(images, *told) - points) / points.shape[1]
        penalty = self.settings.penalty * (self.problem.weights * self.g.penalty()).sum()
        ((images * slope).sum() + penalty).backward()
        self.update("g")

    def _raise(self, points: Tensor, made: Tensor, *, shares: Tensor, told: tuple[Tensor, ...]) -> None:
        """Update every f to increase the objective (10), and make it convex again."""
        with torch.no_grad():
            images = self.g.gradient(points, *told)
        gap = self.f(made, *told) - self.f(images, *told)
        (shares.squeeze(-1) * gap).sum().div(points.shape[1]).backward()
        self.update("f")
        self.f.clip()

    def _improve(self, weights: Tensor, told: tuple[Tensor, ...]) -> float:
        """Update h to decrease (10): it moves towards the average of where the potentials send its points."""
        made = self.generate(self._noise(len(weights)), weights)
        with torch.no_grad():
            sent = self.f.gradient(self._each(made), *told).view(*weights.shape, *made.shape[1:])
            slope = made - torch.einsum("bn,bnmd->bmd", weights, sent)
        made.backward(slope / made.shape[1])
        self.update("h")
        return float(slope.square().sum(dim=-1).mean())

    @torch.no_grad()
    def _sampled(self, count: int, weights: Tensor, *, seed: int) -> Tensor:
        noise = fixed_noise(1, count, self.latent, seed=seed)
        self.h.eval()
        made = self.generate(noise, weights.view(1, -1))[0]
        self.h.train()
        return made
