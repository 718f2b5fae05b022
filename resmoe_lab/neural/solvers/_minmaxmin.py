"""The base class of NWB and NWB-F: a generator against pairs of convex potentials, for one weight vector or several."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..compilation import Compiled, has_compiler
from ..convex import ConvexShape, convex_gradients, pairing_derivatives, value_derivatives
from ..networks import Generator
from ._base import Settings, Solver, seeded_noise


@dataclass(frozen=True)
class MinMaxMinSettings(Settings):
    """Settings of :class:`MinMaxMin`.

    Parameters
    ----------
    batch
        Number of points of every marginal in a batch (M).
    inner, outer
        K1 updates of every g for one of f, and K2 updates of f for one of the generator.
    width, depth
        Width of the hidden layers, and the number of hidden layers of f and g; the generator has one more.
    penalty
        Weight of the penalty on negative weights of g (lambda).
    latent
        Dimension of the generator's noise; 0: that of the marginals.
    normalise
        Whether the generator has batch normalization, as in the paper.
    compiled
        Whether the derivatives of f and g are compiled, which takes half a minute (default: in trainings of at least
        20,000 updates, if there is a C++ compiler).
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
    compiled: bool | None = None


#: With fewer updates than this, a training is over before compiled ones have paid.
_MANY_UPDATES = 20_000

M = TypeVar("M", bound=MinMaxMinSettings)


class MinMaxMin(Solver[M]):
    r"""Minimum over h, maximum over convex f_i, minimum over convex g_i, for B weight vectors a.

    .. math:: \tfrac12 E|h(Z)|^2 + \sum_i a_i E[f_i(\nabla g_i(Y^i)) - \langle Y^i, \nabla g_i(Y^i)\rangle - f_i(h(Z))]

    No gradient is backpropagated through more than one network: the loss depends on h and g_i only by their outputs,
    and its derivative there follows in closed form from the gradients of the potentials. Batches are drawn for every
    update of f, whereas the paper's algorithm keeps one for an outer iteration.

    Network b * N + i is that of marginal i under weight vector b.
    """

    f: Any
    g: Any
    h: Generator
    latent: int

    @abstractmethod
    def _draw_weights(self) -> Tensor:
        """Return the (B, N) weights of an outer iteration."""

    @abstractmethod
    def _conditions(self, weights: Tensor) -> tuple[Tensor, ...]:
        """Return the arguments of f and g after the points, which depend on the weights."""

    @abstractmethod
    def generate(self, noise: Tensor, weights: Tensor) -> Tensor:
        """Map (B, M, latent) noise to the barycenters of (B, N) weights."""

    def _step(self) -> float:
        weights = self._draw_weights()
        conditions, factors = self._conditions(weights), weights.reshape(-1, 1, 1)
        repeats = len(weights)
        for _ in range(self.settings.outer):
            points = self.draw().repeat(repeats, 1, 1)
            with torch.no_grad():
                f = self.f.flat_weights(*conditions)
            for _ in range(self.settings.inner):
                self._update_g(points, f, factors=factors, conditions=conditions)
            with torch.no_grad():
                generated = self._for_every_marginal(self.generate(self._noise(repeats), weights))
            self._update_f(points, generated, factors=factors, conditions=conditions)
        return self._update_h(weights, conditions)

    def _noise(self, repeats: int) -> Tensor:
        return self.noise(repeats, self.settings.batch, self.latent)

    def _for_every_marginal(self, generated: Tensor) -> Tensor:
        """Repeat (B, M, D) points for every marginal: (B * N, M, D)."""
        return generated.repeat_interleave(len(self.problem), dim=0)

    @cached_property
    def _derivatives(self) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
        """The derivatives of the objective (10) with respect to g and f, compiled if that pays."""
        settings = self.settings
        many = settings.steps * settings.outer * (settings.inner + 1) >= _MANY_UPDATES
        if settings.compiled if settings.compiled is not None else many and has_compiler():
            return Compiled(_derivatives_of_g), Compiled(_derivatives_of_f)
        return _derivatives_of_g, _derivatives_of_f

    def _update_g(self, points: Tensor, f: Tensor, *, factors: Tensor, conditions: tuple[Tensor, ...]) -> None:
        """Update every g to decrease the objective (10)."""
        g = self.g.flat_weights(*conditions)
        with torch.no_grad():
            derivatives = self._derivatives[0](points, factors, g=g.detach(), f=f, shape=self.g.shape)
        g.backward(derivatives)
        self.g.add_penalty_gradient(self.settings.penalty * self.problem.weights)
        self.update("g")

    def _update_f(self, points: Tensor, generated: Tensor, *, factors: Tensor, conditions: tuple[Tensor, ...]) -> None:
        """Update every f to increase the objective (10), and project it to convex networks."""
        f = self.f.flat_weights(*conditions)
        with torch.no_grad():
            g = self.g.flat_weights(*conditions)
            pair = torch.stack([generated, points])
            derivatives = self._derivatives[1](pair, factors, g=g.detach(), f=f.detach(), shape=self.f.shape)
        f.backward(derivatives)
        self.update("f")
        self.f.clip()

    def _update_h(self, weights: Tensor, conditions: tuple[Tensor, ...]) -> float:
        """Update h to decrease the objective (10): towards the weighted mean of its points' images."""
        generated = self.generate(self._noise(len(weights)), weights)
        with torch.no_grad():
            images = self.f.gradient(self._for_every_marginal(generated), *conditions).view(
                *weights.shape, *generated.shape[1:]
            )
            gradient = generated - torch.einsum("bn,bnmd->bmd", weights, images)
        generated.backward(gradient / generated.shape[1])
        self.update("h")
        return float(gradient.square().sum(dim=-1).mean())

    @torch.no_grad()
    def _generate_samples(self, count: int, weights: Tensor, *, seed: int) -> Tensor:
        noise = seeded_noise(1, count, self.latent, seed=seed)
        self.h.eval()
        generated = self.generate(noise, weights.view(1, -1))[0]
        self.h.train()
        return generated


def _derivatives_of_g(points: Tensor, factors: Tensor, *, g: Tensor, f: Tensor, shape: ConvexShape) -> Tensor:
    """Return those of ``sum_i a_i E[f_i(grad g_i(Y)) - <Y, grad g_i(Y)>]`` for (N, 1, 1) a and (N, M, D) points Y."""
    weights = shape.split(g)
    images, activations = convex_gradients(points, weights)
    directions = factors * (convex_gradients(images, shape.split(f))[0] - points) / points.shape[1]
    return shape.join(pairing_derivatives(points, directions, weights, activations))


def _derivatives_of_f(points: Tensor, factors: Tensor, *, g: Tensor, f: Tensor, shape: ConvexShape) -> Tensor:
    """Return those of ``sum_i a_i E[f_i(h(Z)) - f_i(grad g_i(Y))]`` for (2, N, M, D) points h(Z) and Y."""
    generated, given = points
    images, _ = convex_gradients(given, shape.split(g))
    shares = (factors.squeeze(-1) / given.shape[1]).expand(-1, given.shape[1])
    both, coefficients = torch.cat([generated, images], dim=1), torch.cat([shares, -shares], dim=1)
    return shape.join(value_derivatives(both, coefficients, shape.split(f)))
