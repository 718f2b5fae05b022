"""WIN: fixed-point iteration on the average of the maps from the barycenter to the marginals."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks import Generator, StackedMLP
from ._base import SOLVERS, Settings, Solver, seeded_noise


@dataclass(frozen=True)
class WINSettings(Settings):
    """Settings of :class:`WIN`.

    Parameters
    ----------
    batch
        Batch size.
    transport, inner
        Number of updates of the potentials in each step, and of the maps for each of these.
    regression
        Number of updates of the generator in each step, towards the average of its previous points' images.
    width, depth
        Size of all networks; width 0: the larger of 100 and twice the dimension.
    plain
        Leave out what stands beside the networks, as in the paper: the linear maps of maps and generator, and the
        potentials' quadratic forms, with which Gaussians can be met exactly.
    """

    batch: int = 128
    transport: int = 4
    inner: int = 3
    regression: int = 1
    width: int = 0
    depth: int = 3
    plain: bool = False


@SOLVERS.register("win")
class WIN(Solver[WINSettings]):
    """A generator, and a transport map from it to every marginal with its potential.

    The map from a marginal to the barycenter is y - grad v(y) of the potential v.

    References
    ----------
    Korotin et al., Wasserstein iterative networks for barycenter estimation (2022).
    """

    name, title = "win", "WIN"
    reference = "Korotin et al., NeurIPS 2022"
    settings_type = WINSettings

    def _build(self) -> None:
        settings, dimension, count = self.settings, self.problem.dimension, len(self.problem)
        widths = [settings.width or max(100, 2 * dimension)] * settings.depth
        beside = not settings.plain
        sizes = [dimension, *widths, dimension]
        self.maps = self.register_network("maps", StackedMLP(count, sizes, skip=beside))
        potentials = StackedMLP(count, [dimension, *widths, 1], quadratic=beside)
        self.potentials = self.register_network("potentials", potentials)
        self.generator_network = self.register_network("made", Generator(sizes, skip=beside))

    def _step(self) -> float:
        for _ in range(self.settings.transport):
            self._update_potentials()
            self.potentials.requires_grad_(False)
            for _ in range(self.settings.inner):
                self._update_maps()
            self.potentials.requires_grad_(True)
        previous = copy.deepcopy(self.generator_network)
        for _ in range(self.settings.regression):
            noise = self.noise(self.settings.batch, self.problem.dimension)
            with torch.no_grad():
                images = self.maps(self._for_every_marginal(previous(noise)))
                target = torch.einsum("n,nmd->md", self.problem.weights, images)
            loss = (self.generator_network(noise) - target).square().sum(dim=1).mean()
            loss.backward()
            self.update("made")
        return float(loss.detach())

    def _for_every_marginal(self, points: Tensor) -> Tensor:
        return points.expand(len(self.problem), *points.shape)

    def _generated(self) -> Tensor:
        with torch.no_grad():
            return self._for_every_marginal(
                self.generator_network(self.noise(self.settings.batch, self.problem.dimension))
            )

    def _update_potentials(self) -> None:
        """Update every potential to increase E v(Y) - E v(T(X))."""
        with torch.no_grad():
            images = self.maps(self._generated())
        loss = self.potentials(images).mean(dim=1) - self.potentials(self.draw()).mean(dim=1)
        loss.sum().backward()
        self.update("potentials")

    def _update_maps(self) -> None:
        """Update every map to decrease E |X - T(X)|^2 / 2 - v(T(X))."""
        points = self._generated()
        images = self.maps(points)
        cost = 0.5 * (images - points).square().sum(dim=-1) - self.potentials(images).squeeze(-1)
        cost.mean(dim=1).sum().backward()
        self.update("maps")

    @torch.no_grad()
    def sample(self, count: int, *, seed: int = 1) -> Tensor:
        """Draw from the generator."""
        return self.generator_network(seeded_noise(count, self.problem.dimension, seed=seed))

    def push(self, points: Tensor) -> Tensor:
        """Map points of the marginals by the gradient of |y|^2 / 2 - v(y)."""
        return points - self.potentials.input_gradient(points)
