"""The barycenter by neural optimal transport: maps from the marginals against congruent potentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..._core.errors import UsageError
from ..costs import Ground, Plan, Regularizer, quadratic
from ..networks import StackedMLP
from ..problem import Problem
from ._base import SOLVERS, Settings, Solver
from ._congruent import Congruent

_PLANS = ("deterministic", "stochastic", "gaussian")


@dataclass(frozen=True)
class NOTSettings(Settings):
    """Of :class:`NOTBarycenter`.

    Parameters
    ----------
    batch
        Points of every marginal a batch.
    inner
        Updates of the maps for one of the potentials (M_T).
    width, depth
        Hidden neurons a layer (0: the larger of 100 and twice the dimension) and hidden layers.
    plan
        ``"deterministic"`` maps T(x), ``"stochastic"`` ones T(x, s), or ``"gaussian"``: N(mu(x), diag(sigma(x)^2)).
    draws
        Images of each point a batch; one for deterministic maps.
    momentum
        Adam's first beta: where maps and potentials chase each other in circles, less of it helps.
    dimension
        Of the barycenter; 0 stands for that of the marginals. Another needs ground costs of its own.
    bound
        The maps' outputs stay within plus and minus this in every coordinate; 0 is no bound. A cost that does not grow
        far out, as on the manifold of a decoder, would let potentials and maps run away together.
    """

    batch: int = 256
    inner: int = 3
    width: int = 0
    depth: int = 3
    plan: str = "deterministic"
    draws: int = 1
    momentum: float = 0.9
    dimension: int = 0
    bound: float = 0.0


@SOLVERS.register("not")
class NOTBarycenter(Solver[NOTSettings]):
    r"""sup over congruent potentials f_k, inf over plans pi_k.

    .. math:: \sum_k \lambda_k E_{x \sim P_k}[C_k(x, \pi_k(\cdot | x)) - E_{y \sim \pi_k(\cdot | x)} f_k(y)]

    Parameters
    ----------
    problem, settings, seed
        As for :class:`Solver`.
    grounds
        One ground cost for all marginals, or one each; half the squared distance by default.
    regularizer
        What makes the cost weak (:class:`~resmoe_lab.neural.costs.KL`, ``Energy``); None is the classical cost.

    References
    ----------
    Kolesov et al. (2024): equations (11), (14) and (15), Algorithm 1.
    """

    name, title = "not", "NOT barycenter"
    reference = "Kolesov et al., ICML 2024"
    settings_type = NOTSettings

    def __init__(
        self,
        problem: Problem,
        settings: NOTSettings | None = None,
        *,
        seed: int = 0,
        grounds: Ground | Sequence[Ground] = quadratic,
        regularizer: Regularizer | None = None,
    ) -> None:
        chosen = settings or NOTSettings()
        count = len(problem)
        self.grounds = [grounds] * count if callable(grounds) else list(grounds)
        self.regularizer = regularizer
        if len(self.grounds) != count:
            raise UsageError(f"{len(self.grounds)} ground costs for {count} distributions, expected one each")
        _check(chosen, regularizer)
        super().__init__(problem, chosen, seed=seed)

    def _build(self) -> None:
        chosen, inputs = self.settings, self.problem.dimension
        self.dimension = chosen.dimension or inputs
        widths = [chosen.width or max(100, 2 * self.dimension)] * chosen.depth
        self.noisy = inputs if chosen.plan == "stochastic" else 0
        outputs = 2 * self.dimension if chosen.plan == "gaussian" else self.dimension
        same = self.dimension == inputs
        betas = chosen.momentum, 0.99
        maps = StackedMLP(len(self.problem), [inputs + self.noisy, *widths, outputs], skip=same)
        self.maps = self.learn("maps", maps, betas=betas)
        potentials = Congruent(self.problem.weights, self.dimension, widths, quadratic=not chosen.bound)
        self.potentials = self.learn("potentials", potentials, betas=betas)

    def plans(self, points: Tensor, *, draws: int, generator: torch.Generator) -> Plan:
        """Draw `draws` images of each of (N, M, D_k) points."""
        count, size, _ = points.shape
        if self.settings.plan == "gaussian":
            mean, logarithm = self.maps(points).split(self.dimension, dim=-1)
            mean = self._bounded(mean)
            scale = (logarithm.clamp(-6, 4) - 1).exp()
            noise = torch.randn(count, size, draws, self.dimension, generator=generator)
            return Plan(mean.unsqueeze(2) + scale.unsqueeze(2) * noise, mean, scale)
        repeated = points.repeat_interleave(draws, dim=1)
        if self.noisy:
            noise = torch.randn(count, size * draws, self.noisy, generator=generator)
            repeated = torch.cat([repeated, noise], dim=-1)
        return Plan(self._bounded(self.maps(repeated)).view(count, size, draws, self.dimension))

    def _bounded(self, places: Tensor) -> Tensor:
        bound = self.settings.bound
        return bound * (places / bound).tanh() if bound else places

    def costs(self, points: Tensor, plan: Plan) -> Tensor:
        """Estimate the weak cost of each of (N, M, D) points: (N, M)."""
        ground = [
            cost(own[:, None, : marginal.dimension], images).mean(dim=-1)
            for cost, own, images, marginal in zip(
                self.grounds, points, plan.images, self.problem.marginals, strict=True
            )
        ]
        total = torch.stack(ground)
        return total if self.regularizer is None else total + self.regularizer(plan, self.generator)

    def _step(self) -> float:
        shares = self.problem.weights.view(-1, 1)
        with torch.no_grad():
            images = self._drawn(self.draw()).images.flatten(1, 2)
        (shares * self.potentials(images)).sum().div(images.shape[1]).backward()
        self.update("potentials")
        self.potentials.requires_grad_(False)
        for _ in range(self.settings.inner):
            points = self.draw()
            plan = self._drawn(points)
            values = self.potentials(plan.images.flatten(1, 2)).view(plan.images.shape[:3]).mean(dim=-1)
            loss = (shares * (self.costs(points, plan) - values)).sum() / points.shape[1]
            loss.backward()
            self.update("maps")
        self.potentials.requires_grad_(True)
        return float(loss.detach())

    def _drawn(self, points: Tensor) -> Plan:
        return self.plans(points, draws=self.settings.draws, generator=self.generator)

    @torch.no_grad()
    def sample(self, count: int, *, seed: int = 1) -> Tensor:
        """Draw from the images of all marginals, each by its weight."""
        generator = torch.Generator().manual_seed(seed)
        images = self.plans(self.problem.sample(count, generator), draws=1, generator=generator).images[:, :, 0]
        chosen = torch.multinomial(self.problem.weights, count, replacement=True, generator=generator)
        return images[chosen, torch.arange(count)]

    @torch.no_grad()
    def push(self, points: Tensor) -> Tensor:
        """Map points to their images, or to the mean of their plans."""
        draws = 1 if self.settings.plan == "deterministic" else 64
        plan = self.plans(points, draws=draws, generator=torch.Generator().manual_seed(3))
        return plan.images.mean(dim=2) if plan.mean is None else plan.mean


def _check(chosen: NOTSettings, regularizer: Regularizer | None) -> None:
    if chosen.plan not in _PLANS:
        raise UsageError(f"plan is {chosen.plan!r}, expected one of {', '.join(_PLANS)}")
    if not chosen.bound >= 0:
        raise UsageError(f"bound is {chosen.bound}, expected a positive number, or 0 for none")
    if regularizer is None:
        return
    if regularizer.gaussian_only and chosen.plan != "gaussian":
        raise UsageError(
            f"{regularizer} is computed for Gaussian plans only, not {chosen.plan} ones: set plan='gaussian'"
        )
    if chosen.draws < regularizer.least_draws:
        raise UsageError(f"{regularizer} needs at least {regularizer.least_draws} draws a point, not {chosen.draws}")
