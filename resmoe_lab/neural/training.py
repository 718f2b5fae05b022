"""The one training loop: progress, cancelling, a checkpoint every minute, resuming, and knowing when to stop."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .._core.errors import Cancelled, ResmoeError, UsageError
from .._core.files import atomic_write
from .._core.progress import Progress, Tick, silent
from .problem import Problem
from .solvers import SOLVERS, Solver

#: Seconds between two checkpoints.
SAVE_SECONDS = 60.0
#: Looks in a row that must have seen a plateau before it is believed.
_PATIENCE = 3


class DivergenceError(ResmoeError):
    """A training has left the numbers; its last good state is kept."""


@dataclass
class Training:
    """A solver and how its training went.

    Attributes
    ----------
    solver
        With its networks as they are at the end.
    history
        One record a look: ``step``, ``loss``, ``drift`` (how far the barycenter has moved since the last look, as a
        share of its variance), ``seconds``.
    seconds
        Spent in the loop, over all the runs of a resumed training.
    stopped
        ``"steps"`` (all were done) or ``"plateau"``.
    """

    solver: Solver[Any]
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    stopped: str = "steps"

    def table(self) -> pd.DataFrame:
        """The history as a tidy table."""
        return pd.DataFrame(self.history, columns=["step", "loss", "drift", "seconds"])


def solve(
    problem: Problem,
    solver: str = "not",
    *,
    seed: int = 0,
    tolerance: float = 0.0,
    out: str | Path | None = None,
    progress: Progress = silent,
    **settings: Any,
) -> Training:
    """Compute a barycenter, or go on where a stopped computation of the same left off.

    Parameters
    ----------
    problem
        Distributions and weights.
    solver
        A name in ``SOLVERS``.
    seed
        Decides everything that is random.
    tolerance
        Stop early where the barycenter moves by less than this share of its variance from one look to the next, several
        times in a row; 0 never stops early.
    out
        A file for the checkpoint, written every minute and at the end; without one nothing is kept.
    progress
        Told the step, the loss and the drift; raising from it stops, with the state kept.
    settings
        The solver's own.

    Raises
    ------
    UsageError
        If there is no such solver or setting.
    DivergenceError
        If the loss is no longer a finite number.

    Examples
    --------
    >>> from resmoe_lab.neural import Gaussian, Problem, solve
    >>> pair = Problem([Gaussian([0.0], [[1.0]]), Gaussian([2.0], [[4.0]])])
    >>> training = solve(pair, "nwb", steps=5)
    >>> training.solver.sample(3).shape
    torch.Size([3, 1])
    """
    kind: Any = SOLVERS[solver]
    try:
        chosen = kind.settings_type(**settings)
    except TypeError as error:
        known = ", ".join(kind.settings_type.__dataclass_fields__)
        raise UsageError(f"{solver} cannot be set so ({error}), expected some of {known}") from error
    return train(kind(problem, chosen, seed=seed), tolerance=tolerance, out=out, progress=progress)


def train(
    solver: Solver[Any],
    *,
    tolerance: float = 0.0,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> Training:
    """Train a solver to its last step; parameters as for :func:`solve`."""
    training = Training(solver)
    kept = None if out is None else _Kept(Path(out), solver)
    if kept is not None:
        kept.load(training)
    run = _Run(training, kept, tolerance, progress)
    try:
        run.go()
    except Cancelled:
        run.keep()
        raise
    run.keep()
    return training


class _Run:
    """The loop, with the last state that is known to be good."""

    def __init__(self, training: Training, kept: _Kept | None, tolerance: float, progress: Progress) -> None:
        self.training, self.kept, self.tolerance, self.progress = training, kept, tolerance, progress
        self.solver = training.solver
        self.every = max(1, self.solver.settings.steps // 50)
        self.begun = time.perf_counter() - training.seconds
        self.saved_at = time.monotonic()

    def go(self) -> None:
        """Train until the steps are done or nothing moves any more."""
        steps, solver = self.solver.settings.steps, self.solver
        good, probe, still = solver.state(), solver.probe(), 0
        self._tell({})
        while solver.done < steps and self.training.stopped == "steps":
            loss = solver.step()
            if not math.isfinite(loss):
                self._diverged(good, f"the loss is {loss}")
            self.training.seconds = time.perf_counter() - self.begun
            if solver.done % self.every == 0 or solver.done == steps:
                now = solver.probe()
                if not bool(now.isfinite().all()):
                    self._diverged(good, "the barycenter has points that are not finite")
                good, drift = solver.state(), _drift(probe, now)
                probe = now
                facts = {"loss": loss, "drift": drift}
                self.training.history.append({"step": solver.done, **facts, "seconds": self.training.seconds})
                still = still + 1 if drift < self.tolerance else 0
                self.training.stopped = "plateau" if still >= _PATIENCE else "steps"
                self._tell(facts)
            elif solver.done % max(1, self.every // 5) == 0:
                self._tell({"loss": loss})
            if time.monotonic() - self.saved_at > SAVE_SECONDS:
                self.keep()

    def keep(self) -> None:
        """Write the checkpoint, where one is wanted."""
        if self.kept is not None:
            self.kept.save(self.training)
        self.saved_at = time.monotonic()

    def _tell(self, facts: dict[str, float]) -> None:
        self.progress(Tick(f"train {self.solver.name}", self.solver.done, self.solver.settings.steps, facts))

    def _diverged(self, good: dict[str, Tensor], what: str) -> None:
        at = self.solver.done
        self.solver.restore(good)
        self.keep()
        where = f" in {self.kept.path}" if self.kept else ""
        raise DivergenceError(
            f"{self.solver.name} diverged at step {at} ({what}); the state of step {self.solver.done} is kept{where}: "
            "lower the learning rate, or scale the distributions"
        )


def _drift(before: Tensor, now: Tensor) -> float:
    spread = float(now.var(dim=0).sum())
    return float((now - before).square().sum(dim=1).mean()) / max(spread, 1e-30)


class _Kept:
    """A training's checkpoint, in safetensors: nothing is ever unpickled."""

    def __init__(self, path: Path, solver: Solver[Any]) -> None:
        self.path = path
        facts = {"solver": solver.name, "settings": asdict(solver.settings), "seed": solver.seed}
        self._fingerprint = json.dumps(facts | {"problem": solver.problem.fingerprint()}, sort_keys=True)

    def save(self, training: Training) -> None:
        """Write it, whole or not at all."""
        facts = {
            "fingerprint": self._fingerprint,
            "history": json.dumps(training.history),
            "seconds": str(training.seconds),
            "stopped": training.stopped,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path) as part:
            save_file({k: v.contiguous() for k, v in training.solver.state().items()}, str(part), metadata=facts)

    def load(self, training: Training) -> None:
        """Put a saved state back.

        Raises
        ------
        UsageError
            If the file is of another training.
        """
        if not self.path.is_file():
            return
        with safe_open(str(self.path), framework="pt") as stored:
            facts = stored.metadata()
            if facts.get("fingerprint") != self._fingerprint:
                raise UsageError(
                    f"{self.path} holds another training (other problem, settings or seed): name another file, "
                    "or remove it"
                )
            training.solver.restore({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118
        training.history[:] = json.loads(facts["history"])
        training.seconds, training.stopped = float(facts["seconds"]), facts["stopped"]
