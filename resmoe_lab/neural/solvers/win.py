"""WIN: the fixed point of averaging the maps from the barycenter to the marginals."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks import Generator, StackedMLP
from ._base import SOLVERS, Settings, Solver, fixed_noise


@dataclass(frozen=True)
class WINSettings(Settings):
    """Of :class:`WIN`.

    Parameters
    ----------
    batch
        Points a batch.
    transport, inner
        Updates of the potentials a round, and of the maps for each of those.
    regression
        Updates of the generator a round, towards the average of the maps of what it gave before.
    width, depth
        Of all networks; width 0 is the larger of 100 and twice the dimension.
    """

    batch: int = 128
    transport: int = 4
    inner: int = 3
    regression: int = 1
    width: int = 0
    depth: int = 3


@SOLVERS.register("win")
class WIN(Solver[WINSettings]):
    """A generator, and for every marginal a neural transport map from it with its potential.

    The way from a marginal to the barycenter, which the maps do not give, is y - grad v(y) of the potential.

    References
    ----------
    Korotin et al., Wasserstein iterative networks for barycenter estimation (2022).
    """

    name, title = "win", "WIN"
    reference = "Korotin et al., NeurIPS 2022"
    settings_type = WINSettings

    def _build(self) -> None:
        chosen, dimension, count = self.settings, self.problem.dimension, len(self.problem)
        widths = [chosen.width or max(100, 2 * dimension)] * chosen.depth
        self.maps = self.learn("maps", StackedMLP(count, [dimension, *widths, dimension], skip=True))
        self.potentials = self.learn("potentials", StackedMLP(count, [dimension, *widths, 1], quadratic=True))
        self.made = self.learn("made", Generator([dimension, *widths, dimension]))

    def _step(self) -> float:
        for _ in range(self.settings.transport):
            self._raise()
            self.potentials.requires_grad_(False)
            for _ in range(self.settings.inner):
                self._lower()
            self.potentials.requires_grad_(True)
        before = copy.deepcopy(self.made)
        for _ in range(self.settings.regression):
            noise = self.noise(self.settings.batch, self.problem.dimension)
            with torch.no_grad():
                sent = self.maps(self._each(before(noise)))
                target = torch.einsum("n,nmd->md", self.problem.weights, sent)
            loss = (self.made(noise) - target).square().sum(dim=1).mean()
            loss.backward()
            self.update("made")
        return float(loss.detach())

    def _each(self, points: Tensor) -> Tensor:
        return points.expand(len(self.problem), *points.shape)

    def _drawn(self) -> Tensor:
        with torch.no_grad():
            return self._each(self.made(self.noise(self.settings.batch, self.problem.dimension)))

    def _raise(self) -> None:
        """Update every potential to raise E v(Y) - E v(T(X))."""
        with torch.no_grad():
            images = self.maps(self._drawn())
        loss = self.potentials(images).mean(dim=1) - self.potentials(self.draw()).mean(dim=1)
        loss.sum().backward()
        self.update("potentials")

    def _lower(self) -> None:
        """Update every map to lower E |X - T(X)|^2 / 2 - v(T(X))."""
        points = self._drawn()
        images = self.maps(points)
        cost = 0.5 * (images - points).square().sum(dim=-1) - self.potentials(images).squeeze(-1)
        cost.mean(dim=1).sum().backward()
        self.update("maps")

    @torch.no_grad()
    def sample(self, count: int, *, seed: int = 1) -> Tensor:
        """Draw from the generator."""
        return self.made(fixed_noise(count, self.problem.dimension, seed=seed))

    def push(self, points: Tensor) -> Tensor:
        """Map by the gradient of |y|^2 / 2 - v(y)."""
        return points - self.potentials.slope(points)
