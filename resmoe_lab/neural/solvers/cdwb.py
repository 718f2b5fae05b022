"""CDWB: a barycenter of finitely many free points, POT's."""

from __future__ import annotations

from dataclasses import dataclass

import ot
import torch
from torch import Tensor, nn

from ._base import SOLVERS, Settings, Solver


@dataclass(frozen=True)
class CDWBSettings(Settings):
    """Of :class:`CDWB`.

    Parameters
    ----------
    steps
        Rounds of matching and averaging.
    batch
        Points of every marginal; they are drawn once.
    support
        Points of the barycenter.
    """

    steps: int = 10
    batch: int = 1500
    support: int = 1500


class _Support(nn.Module):
    """Points that a checkpoint keeps and no gradient moves."""

    points: Tensor

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.register_buffer("points", points)


@SOLVERS.register("cdwb")
class CDWB(Solver[CDWBSettings]):
    """The free-support barycenter of samples, by exact transport to each marginal and averaging, in turn.

    References
    ----------
    Cuturi and Doucet (2014), algorithm 2, as ``ot.lp.free_support_barycenter``.
    """

    name, title = "cdwb", "CDWB"
    reference = "Cuturi and Doucet, ICML 2014 (POT)"
    settings_type = CDWBSettings
    has_maps = False

    def _build(self) -> None:
        self.points = [points.double().numpy() for points in self.draw()]
        self.uniform = ot.unif(self.settings.batch)
        self.modules["support"] = self.support = _Support(self.problem.sample(self.settings.support, self.generator)[0])

    def _step(self) -> float:
        before = self.support.points
        moved = ot.lp.free_support_barycenter(
            self.points,
            [self.uniform] * len(self.points),
            before.double().numpy(),
            weights=(self.problem.weights.double() / self.problem.weights.double().sum()).numpy(),
            numItermax=1,
            stopThr=0.0,
        )
        self.support.points = torch.as_tensor(moved, dtype=torch.float32)
        return float((self.support.points - before).square().sum(dim=1).mean())

    def sample(self, count: int, *, seed: int = 1) -> Tensor:
        """Return the points, or so many of them; there are never more than the support has."""
        return self.support.points[:count].clone()
