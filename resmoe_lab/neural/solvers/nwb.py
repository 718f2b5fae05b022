"""Neural Wasserstein Barycenter: a generator of the barycenter, and a pair of convex potentials for every marginal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks import Generator, StackedICNN
from ._base import SOLVERS, Settings, Solver


@dataclass(frozen=True)
class NWBSettings(Settings):
    """Of :class:`NWB`.

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
    """

    batch: int = 100
    inner: int = 6
    outer: int = 4
    width: int = 10
    depth: int = 3
    penalty: float = 0.1
    latent: int = 0


@SOLVERS.register("nwb")
class NWB(Solver[NWBSettings]):
    r"""min over h, max over convex f_i, min over convex g_i.

    .. math:: \tfrac12 E|h(Z)|^2 + \sum_i a_i E[f_i(\nabla g_i(Y^i)) - \langle Y^i, \nabla g_i(Y^i)\rangle - f_i(h(Z))]

    No gradient is taken through more than one network: the loss depends on h and g_i only by the points that they give,
    and its derivative there is known in closed form from the potentials' gradients. Batches are drawn anew for every
    update of f, where the paper's algorithm keeps one for a whole outer iteration.

    With one marginal it is a generative model of it.

    References
    ----------
    Fan, Taghvaei and Chen (2021): equations (9) and (10), Algorithm 1.
    """

    name, title = "nwb", "NWB"
    reference = "Fan, Taghvaei and Chen, ICML 2021"
    Settings = NWBSettings

    def _build(self) -> None:
        chosen, dimension = self.settings, self.problem.dimension
        widths, count = [chosen.width] * chosen.depth, len(self.problem)
        self.latent = chosen.latent or dimension
        self.f = self.learn("f", StackedICNN(count, dimension, widths))
        self.g = self.learn("g", StackedICNN(count, dimension, widths))
        sizes = [self.latent, *[chosen.width] * (chosen.depth + 1), dimension]
        self.h = self.learn("h", Generator(sizes))
        self.shares = self.problem.weights.view(-1, 1, 1)

    def _step(self) -> float:
        for _ in range(self.settings.outer):
            points = self.draw()
            for _ in range(self.settings.inner):
                self._lower(points)
            with torch.no_grad():
                made = self.h(self.noise(self.settings.batch, self.latent))
            self._raise(points, made)
        return self._generate()

    def _lower(self, points: Tensor) -> None:
        """Update every g to decrease (10)."""
        images = self.g.gradient(points)
        with torch.no_grad():
            slope = self.shares * (self.f.gradient(images) - points) / points.shape[1]
        penalty = self.settings.penalty * (self.shares.flatten() * self.g.penalty()).sum()
        ((images * slope).sum() + penalty).backward()
        self.update("g")

    def _raise(self, points: Tensor, made: Tensor) -> None:
        """Update every f to increase (10), and make it convex again."""
        with torch.no_grad():
            images = self.g.gradient(points)
        gap = self.f(made.expand(len(points), *made.shape)) - self.f(images)
        (self.shares.squeeze(-1) * gap).sum().div(points.shape[1]).backward()
        self.update("f")
        self.f.clip()

    def _generate(self) -> float:
        """Update h to decrease (10): it moves towards the average of where the potentials send its points."""
        made = self.h(self.noise(self.settings.batch, self.latent))
        with torch.no_grad():
            sent = self.f.gradient(made.expand(len(self.problem), *made.shape))
            slope = made - (self.shares * sent).sum(dim=0)
        made.backward(slope / len(made))
        self.update("h")
        return float(slope.square().sum(dim=1).mean())

    @torch.no_grad()
    def sample(self, count: int, *, seed: int = 1) -> Tensor:
        """Draw from the generator, h pushed forward."""
        noise = torch.randn(count, self.latent, generator=torch.Generator().manual_seed(seed))
        self.h.eval()
        made = self.h(noise)
        self.h.train()
        return made

    @torch.no_grad()
    def push(self, points: Tensor) -> Tensor:
        """Map by the gradient of g_i."""
        return self.g.gradient(points)

    @torch.no_grad()
    def back(self, points: Tensor) -> Tensor:
        """Map (M, D) points of the barycenter to every marginal by the gradient of f_i: (N, M, D)."""
        return self.f.gradient(points.expand(len(self.problem), *points.shape))
