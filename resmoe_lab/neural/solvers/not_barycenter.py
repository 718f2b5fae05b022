"""The barycenter by neural optimal transport: maps from the marginals against congruent potentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..._core.errors import UsageError
from ..costs import ConditionalPlans, GroundCost, Regularizer, quadratic
from ..networks import StackedMLP
from ..problem import Problem
from ._base import SOLVERS, Settings, Solver
from ._congruent import CongruentPotentials

_PLANS = ("deterministic", "stochastic", "gaussian")


@dataclass(frozen=True)
class NOTSettings(Settings):
    """Of :class:`NOTBarycenter`.

    Parameters
    ----------
    batch
        Number of points of every marginal in a batch.
    inner
        Number of updates of the maps for one of the potentials (M_T).
    width, depth
        Width of hidden layers (0: the larger of 100 and twice the dimension), and their number.
    plan
        ``"deterministic"`` maps T(x), ``"stochastic"`` maps T(x, s), or ``"gaussian"``: N(mu(x), diag(sigma(x)^2)).
    draws
        Number of images of each point; one for deterministic maps.
    momentum
        Adam's first beta; smaller values help if maps and potentials oscillate.
    dimension
        Dimension of the barycenter; 0: that of the marginals. Others need suitable ground costs.
    bound
        Bound of the absolute value of the maps' outputs; 0: none. Without it, potentials and maps diverge under costs
        that do not grow at infinity, as on the manifold of a decoder.
    plain
        Leave out what stands beside the networks, as in the paper: the linear maps of maps, and the potentials'
        quadratic forms, with which Gaussians can be met exactly.
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
    plain: bool = False


@SOLVERS.register("not")
class NOTBarycenter(Solver[NOTSettings]):
    r"""Supremum over congruent potentials f_k, infimum over plans pi_k.

    .. math:: \sum_k \lambda_k E_{x \sim P_k}[C_k(x, \pi_k(\cdot | x)) - E_{y \sim \pi_k(\cdot | x)} f_k(y)]

    Parameters
    ----------
    problem, settings, seed
        See :class:`Solver`.
    grounds
        One ground cost for all marginals, or one for each (default: half the squared distance).
    regularizer
        Regularizer of a weak cost (:class:`~resmoe_lab.neural.costs.KL`, ``Energy``); None for the classical cost.

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
        grounds: GroundCost | Sequence[GroundCost] = quadratic,
        regularizer: Regularizer | None = None,
    ) -> None:
        settings = settings or NOTSettings()
        count = len(problem)
        self.grounds = [grounds] * count if callable(grounds) else list(grounds)
        self.regularizer = regularizer
        if len(self.grounds) != count:
            raise UsageError(f"{len(self.grounds)} ground costs for {count} distributions, expected one each")
        _check_settings(settings, regularizer)
        super().__init__(problem, settings, seed=seed)

    def _build(self) -> None:
        settings, inputs = self.settings, self.problem.dimension
        self.dimension = settings.dimension or inputs
        widths = [settings.width or max(100, 2 * self.dimension)] * settings.depth
        self.noise_dimension = inputs if settings.plan == "stochastic" else 0
        outputs = 2 * self.dimension if settings.plan == "gaussian" else self.dimension
        skip = self.dimension == inputs and not settings.plain
        betas = settings.momentum, 0.99
        maps = StackedMLP(len(self.problem), [inputs + self.noise_dimension, *widths, outputs], skip=skip)
        self.maps = self.register_network("maps", maps, betas=betas)
        form = not settings.bound and not settings.plain
        potentials = CongruentPotentials(self.problem.weights, self.dimension, widths, quadratic=form)
        self.potentials = self.register_network("potentials", potentials, betas=betas)

    def plans(self, points: Tensor, *, draws: int, generator: torch.Generator) -> ConditionalPlans:
        """Draw `draws` images of each of (N, M, D_k) points."""
        count, size, _ = points.shape
        if self.settings.plan == "gaussian":
            mean, log_scale = self.maps(points).split(self.dimension, dim=-1)
            mean = self._bounded(mean)
            scale = (log_scale.clamp(-6, 4) - 1).exp()
            noise = torch.randn(count, size, draws, self.dimension, generator=generator)
            return ConditionalPlans(mean.unsqueeze(2) + scale.unsqueeze(2) * noise, mean, scale)
        repeated = points.repeat_interleave(draws, dim=1)
        if self.noise_dimension:
            noise = torch.randn(count, size * draws, self.noise_dimension, generator=generator)
            repeated = torch.cat([repeated, noise], dim=-1)
        return ConditionalPlans(self._bounded(self.maps(repeated)).view(count, size, draws, self.dimension))

    def _bounded(self, images: Tensor) -> Tensor:
        bound = self.settings.bound
        return bound * (images / bound).tanh() if bound else images

    def costs(self, points: Tensor, plan: ConditionalPlans) -> Tensor:
        """Estimate the weak cost of each of (N, M, D) points: (N, M)."""
        ground = [
            cost(own_points[:, None, : marginal.dimension], images).mean(dim=-1)
            for cost, own_points, images, marginal in zip(
                self.grounds, points, plan.images, self.problem.marginals, strict=True
            )
        ]
        total = torch.stack(ground)
        return total if self.regularizer is None else total + self.regularizer(plan, self.generator)

    def _step(self) -> float:
        weights = self.problem.weights.view(-1, 1)
        with torch.no_grad():
            images = self._sample_plans(self.draw()).images.flatten(1, 2)
        (weights * self.potentials(images)).sum().div(images.shape[1]).backward()
        self.update("potentials")
        self.potentials.requires_grad_(False)
        for _ in range(self.settings.inner):
            points = self.draw()
            plan = self._sample_plans(points)
            values = self.potentials(plan.images.flatten(1, 2)).view(plan.images.shape[:3]).mean(dim=-1)
            loss = (weights * (self.costs(points, plan) - values)).sum() / points.shape[1]
            loss.backward()
            self.update("maps")
        self.potentials.requires_grad_(True)
        return float(loss.detach())

    def _sample_plans(self, points: Tensor) -> ConditionalPlans:
        return self.plans(points, draws=self.settings.draws, generator=self.generator)

    @torch.no_grad()
    def sample(self, count: int, *, seed: int = 1) -> Tensor:
        """Draw from the images of all marginals, in proportion to their weights."""
        generator = torch.Generator().manual_seed(seed)
        images = self.plans(self.problem.sample(count, generator), draws=1, generator=generator).images[:, :, 0]
        marginals = torch.multinomial(self.problem.weights, count, replacement=True, generator=generator)
        return images[marginals, torch.arange(count)]

    @torch.no_grad()
    def push(self, points: Tensor) -> Tensor:
        """Map points to their images, or to the mean of their plans."""
        draws = 1 if self.settings.plan == "deterministic" else 64
        plan = self.plans(points, draws=draws, generator=torch.Generator().manual_seed(3))
        return plan.images.mean(dim=2) if plan.mean is None else plan.mean


def _check_settings(settings: NOTSettings, regularizer: Regularizer | None) -> None:
    if settings.plan not in _PLANS:
        raise UsageError(f"plan is {settings.plan!r}, expected one of {', '.join(_PLANS)}")
    if not settings.bound >= 0:
        raise UsageError(f"bound is {settings.bound}, expected a positive number, or 0 for none")
    if regularizer is None:
        return
    if regularizer.gaussian_only and settings.plan != "gaussian":
        raise UsageError(
            f"{regularizer} is computed for Gaussian plans only, not {settings.plan} ones: set plan='gaussian'"
        )
    if settings.draws < regularizer.min_draws:
        raise UsageError(f"{regularizer} needs at least {regularizer.min_draws} draws a point, not {settings.draws}")
