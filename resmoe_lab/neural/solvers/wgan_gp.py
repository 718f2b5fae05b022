"""WGAN-GP: a generator against a critic whose gradient is held near one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks import Generator, StackedMLP
from ._base import SOLVERS, Settings, Solver, fixed_noise, only_one


@dataclass(frozen=True)
class WGANSettings(Settings):
    """Of :class:`WGANGP`.

    Parameters
    ----------
    batch
        Points a batch.
    inner
        Updates of the critic for one of the generator.
    width, depth
        Of both networks.
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
    """One marginal, the 1-Wasserstein distance.

    References
    ----------
    Gulrajani et al., Improved training of Wasserstein GANs (2017), Algorithm 1.
    """

    name, title = "wgan-gp", "WGAN-GP"
    reference = "Gulrajani et al., NeurIPS 2017"
    settings_type = WGANSettings
    has_maps = False

    def _build(self) -> None:
        only_one(self.problem, self.name)
        chosen, dimension = self.settings, self.problem.dimension
        widths = [chosen.width] * chosen.depth
        betas = (0.5, 0.9)
        self.critic = self.learn("critic", StackedMLP(1, [dimension, *widths, 1]), betas=betas)
        self.made = self.learn("made", Generator([dimension, *widths, dimension], skip=False), betas=betas)

    def _step(self) -> float:
        size, dimension = self.settings.batch, self.problem.dimension
        for _ in range(self.settings.inner):
            points = self.draw()
            with torch.no_grad():
                made = self.made(self.noise(size, dimension)).unsqueeze(0)
            between = torch.rand(1, size, 1, generator=self.generator)
            places = (points + between * (made - points)).requires_grad_(True)
            (slope,) = torch.autograd.grad(self.critic(places).sum(), places, create_graph=True)
            penalty = (slope.norm(dim=-1) - 1).square().mean()
            loss = self.critic(made).mean() - self.critic(points).mean() + self.settings.penalty * penalty
            loss.backward()
            self.update("critic")
        self.critic.requires_grad_(False)
        (-self.critic(self.made(self.noise(size, dimension)).unsqueeze(0)).mean()).backward()
        self.update("made")
        self.critic.requires_grad_(True)
        return float(loss.detach())

    @torch.no_grad()
    def sample(self, count: int, *, seed: int = 1) -> Tensor:
        """Draw from the generator."""
        return self.made(fixed_noise(count, self.problem.dimension, seed=seed))
