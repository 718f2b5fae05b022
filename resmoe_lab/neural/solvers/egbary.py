"""EgBary: the entropic barycenter by energy-guided sampling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._base import SOLVERS, Settings, Solver
from ._congruent import CongruentPotentials


@dataclass(frozen=True)
class EgBarySettings(Settings):
    """Settings of :class:`EgBary`.

    Parameters
    ----------
    batch
        Number of points of every marginal in a batch.
    epsilon
        Weight of the entropy.
    langevin, stride
        Number of Langevin steps for a batch, and the step size eta as a multiple of epsilon.
    width, depth
        Size of the potentials; width 0: the larger of 100 and twice the dimension.
    plain
        Leave out the quadratic forms beside the networks, as in the paper.
    """

    batch: int = 128
    epsilon: float = 0.01
    langevin: int = 40
    stride: float = 0.5
    width: int = 0
    depth: int = 2
    plain: bool = False


@SOLVERS.register("egbary")
class EgBary(Solver[EgBarySettings]):
    r"""Congruent potentials whose conditional plans are energy-based models.

    .. math:: \pi_k(y | x) \propto \exp((f_k(y) - \tfrac12 |x - y|^2) / \epsilon)

    The dual's gradient is the mean gradient of the potentials over these plans, which are sampled by the unadjusted
    Langevin algorithm.

    References
    ----------
    Kolesov et al., Energy-guided continuous entropic barycenter estimation (2023).
    """

    name, title = "egbary", "EgBary"
    reference = "Kolesov et al., 2023"
    settings_type = EgBarySettings

    def _build(self) -> None:
        settings, dimension = self.settings, self.problem.dimension
        widths = [settings.width or max(100, 2 * dimension)] * settings.depth
        potentials = CongruentPotentials(self.problem.weights, dimension, widths, quadratic=not settings.plain)
        self.potentials = self.register_network("potentials", potentials)

    def _step(self) -> float:
        images, _ = self._langevin(self.draw(), self.settings.langevin, self.generator)
        # The dual increases if the potentials decrease on samples of their plans.
        loss = (self.problem.weights.view(-1, 1) * self.potentials(images)).sum() / images.shape[1]
        loss.backward()
        self.update("potentials")
        return float(loss.detach())

    def _langevin(self, points: Tensor, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw one image of each (N, M, D) point, and return it with the mean of the second half of its chain."""
        eta = self.settings.stride * self.settings.epsilon
        images, total = points.clone(), torch.zeros_like(points)
        self.potentials.requires_grad_(False)
        for step in range(steps):
            drift = 0.5 * self.settings.stride * (self.potentials.input_gradient(images) + points - images)
            images = images + drift + eta**0.5 * torch.randn(points.shape, generator=generator)
            if step >= steps // 2:
                total += images
        self.potentials.requires_grad_(True)
        return images, total / (steps - steps // 2)

    def sample(self, count: int, *, seed: int = 1) -> Tensor:
        """Draw from the plans of all marginals, in proportion to their weights."""
        generator = torch.Generator().manual_seed(seed)
        marginals = torch.multinomial(self.problem.weights, count, replacement=True, generator=generator)
        points = self.problem.sample(count, generator)
        return self._langevin(points, 2 * self.settings.langevin, generator)[0][marginals, torch.arange(count)]

    def push(self, points: Tensor) -> Tensor:
        """Map to the mean of the plan (barycentric projection), over a long chain."""
        return self._langevin(points, 4 * self.settings.langevin, torch.Generator().manual_seed(3))[1]
