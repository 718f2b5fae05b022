"""CDWB: POT's free-support barycenter."""

from __future__ import annotations

from dataclasses import dataclass

import ot
import torch
from torch import Tensor, nn

from ._base import SOLVERS, Settings, Solver


@dataclass(frozen=True)
class CDWBSettings(Settings):
    """Settings of :class:`CDWB`.

    Parameters
    ----------
    steps
        Number of rounds of matching and averaging.
    batch
        Number of points of every marginal, which are drawn once.
    support
        Number of points of the barycenter.
    """

    steps: int = 10
    batch: int = 1500
    support: int = 1500


class _Support(nn.Module):
    """The support points, as a module so that they are part of the state."""

    points: Tensor

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.register_buffer("points", points)


@SOLVERS.register("cdwb")
class CDWB(Solver[CDWBSettings]):
    """The free-support barycenter of samples, by alternating exact transport and averaging.

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
        previous = self.support.points
        points = ot.lp.free_support_barycenter(
            self.points,
            [self.uniform] * len(self.points),
            previous.double().numpy(),
            weights=(self.problem.weights.double() / self.problem.weights.double().sum()).numpy(),
            numItermax=1,
            stopThr=0.0,
        )
        self.support.points = torch.as_tensor(points, dtype=torch.float32)
        return float((self.support.points - previous).square().sum(dim=1).mean())

    def sample(self, count: int, *, seed: int = 1) -> Tensor:
        """Return the first `count` support points, or all if there are fewer."""
        return self.support.points[:count].clone()
