"""WGAN-GP: a generator against a critic with a gradient penalty."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks import Generator, StackedMLP
from ._base import SOLVERS, Settings, Solver, check_single_marginal, seeded_noise


@dataclass(frozen=True)
class WGANSettings(Settings):
    """Settings of :class:`WGANGP`.

    Parameters
    ----------
    batch
        Batch size.
    inner
        Number of updates of the critic for one of the generator.
    width, depth
        Size of both networks.
    penalty
        Weight of the gradient penalty.
    """

    batch: int = 256
    learning_rate: float = 5e-4
    inner: int = 5
    width: int = 128
    depth: int = 3
    penalty: float = 10.0


@SOLVERS.register("wgan-gp")
class WGANGP(Solver[WGANSettings]):
    """A generative model of one marginal by the 1-Wasserstein distance.

    References
    ----------
    Gulrajani et al., Improved training of Wasserstein GANs (2017), Algorithm 1.
    """

    name, title = "wgan-gp", "WGAN-GP"
    reference = "Gulrajani et al., NeurIPS 2017"
    settings_type = WGANSettings
    has_maps = False

    def _build(self) -> None:
        check_single_marginal(self.problem, self.name)
        settings, dimension = self.settings, self.problem.dimension
        widths = [settings.width] * settings.depth
        betas = (0.5, 0.9)
        self.critic = self.register_network("critic", StackedMLP(1, [dimension, *widths, 1]), betas=betas)
        self.generator_network = self.register_network(
            "made", Generator([dimension, *widths, dimension], skip=False), betas=betas
        )

    def _step(self) -> float:
        size, dimension = self.settings.batch, self.problem.dimension
        for _ in range(self.settings.inner):
            points = self.draw()
            with torch.no_grad():
                generated = self.generator_network(self.noise(size, dimension)).unsqueeze(0)
            interpolation = torch.rand(1, size, 1, generator=self.generator)
            inputs = (points + interpolation * (generated - points)).requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.critic(inputs).sum(), inputs, create_graph=True)
            penalty = (gradient.norm(dim=-1) - 1).square().mean()
            loss = self.critic(generated).mean() - self.critic(points).mean() + self.settings.penalty * penalty
            loss.backward()
            self.update("critic")
        self.critic.requires_grad_(False)
        (-self.critic(self.generator_network(self.noise(size, dimension)).unsqueeze(0)).mean()).backward()
        self.update("made")
        self.critic.requires_grad_(True)
        return float(loss.detach())

    @torch.no_grad()
    def sample(self, count: int, *, seed: int = 1) -> Tensor:
        """Draw from the generator."""
        return self.generator_network(seeded_noise(count, self.problem.dimension, seed=seed))
