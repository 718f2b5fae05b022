"""The training loop: progress, cancellation, checkpoints, resuming and early stopping."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .._core.errors import Cancelled, CheckpointError, ResmoeError, UsageError
from .._core.files import atomic_write
from .._core.parsing import parse_json
from .._core.progress import Progress, Tick, silent
from .problem import Problem
from .solvers import SOLVERS, Solver

#: Seconds between two checkpoints.
SAVE_SECONDS = 60.0
#: Layout of the solvers' states; those of another one cannot be gone on with.
_LAYOUT = 2
#: Number of consecutive evaluations on a plateau before the training stops.
_PATIENCE = 3


class DivergenceError(ResmoeError):
    """A training has diverged; its last finite state is checkpoint."""


@dataclass
class Training:
    """The result of a training: the solver and its history.

    Attributes
    ----------
    solver
        The trained solver.
    history
        One record for each evaluation: ``step``, ``loss``, ``drift`` (the barycenter's squared change since the last
        evaluation, relative to its variance), ``seconds``.
    seconds
        Time in the loop, over all runs of a resumed training.
    stopped
        ``"steps"`` (all steps are done) or ``"plateau"``.
    """

    solver: Solver[Any]
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    stopped: str = "steps"

    def table(self) -> pd.DataFrame:
        """Return the history as a tidy table."""
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
    """Compute a barycenter, or resume a computation that was stopped.

    Parameters
    ----------
    problem
        The distributions and their weights.
    solver
        A name in ``SOLVERS``.
    seed
        Seed of all random numbers.
    tolerance
        Stop early if the drift of several consecutive evaluations is below this; 0 never stops early.
    out
        File of the checkpoint, written every minute and at the end (default: no checkpoint).
    progress
        Called with the step, the loss and the drift; raising from it cancels, after a checkpoint.
    settings
        Settings of the solver.

    Returns
    -------
    Training
        The trained solver and its history.

    Raises
    ------
    UsageError
        If there is no such solver or setting.
    DivergenceError
        If the loss or the barycenter is no longer finite.

    Examples
    --------
    >>> from resmoe_lab.neural import Gaussian, Problem, solve
    >>> pair = Problem([Gaussian([0.0], [[1.0]]), Gaussian([2.0], [[4.0]])])
    >>> training = solve(pair, "not", steps=2, batch=16, width=8)
    >>> training.solver.sample(3).shape
    torch.Size([3, 1])
    """
    kind: Any = SOLVERS[solver]
    try:
        solver_settings = kind.settings_type(**settings)
    except TypeError as error:
        names = ", ".join(kind.settings_type.__dataclass_fields__)
        raise UsageError(f"{solver} has no such settings ({error}), expected some of {names}") from error
    return train(kind(problem, solver_settings, seed=seed), tolerance=tolerance, out=out, progress=progress)


def train(
    solver: Solver[Any],
    *,
    tolerance: float = 0.0,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> Training:
    """Train a solver to its last step, or resume a training that was stopped.

    Parameters
    ----------
    solver
        A new solver of ``SOLVERS``.
    tolerance, out, progress
        See :func:`~resmoe_lab.neural.solve`.

    Returns
    -------
    Training
        The trained solver and its history.

    Examples
    --------
    >>> from resmoe_lab.neural import SOLVERS, Gaussian, Problem, train
    >>> kind = SOLVERS["not"]
    >>> solver = kind(Problem([Gaussian([0.0], [[1.0]])]), kind.settings_type(steps=2, batch=16, width=8))
    >>> len(train(solver).history)
    2
    """
    training = Training(solver)
    checkpoint = None if out is None else _TrainingCheckpoint(Path(out), solver)
    if checkpoint is not None:
        checkpoint.load(training)
    run = _Run(training, checkpoint, tolerance, progress)
    try:
        run.run()
    except Cancelled:
        run.save()
        raise
    run.save()
    return training


class _Run:
    """The training loop, with the last finite state."""

    def __init__(
        self, training: Training, checkpoint: _TrainingCheckpoint | None, tolerance: float, progress: Progress
    ) -> None:
        self.training, self.checkpoint, self.tolerance, self.progress = training, checkpoint, tolerance, progress
        self.solver = training.solver
        self.interval = max(1, self.solver.settings.steps // 50)
        self.started = time.perf_counter() - training.seconds
        self.saved_at = time.monotonic()

    def run(self) -> None:
        """Train until all steps are done or a plateau is reached."""
        steps, solver = self.solver.settings.steps, self.solver
        finite_state, samples, plateau = solver.state(), solver.probe(), 0
        self._report({})
        while solver.done < steps and self.training.stopped == "steps":
            loss = solver.step()
            if not math.isfinite(loss):
                self._diverged(finite_state, f"the loss is {loss}")
            self.training.seconds = time.perf_counter() - self.started
            if solver.done % self.interval == 0 or solver.done == steps:
                new_samples = solver.probe()
                if not bool(new_samples.isfinite().all()):
                    self._diverged(finite_state, "the barycenter has points that are not finite")
                finite_state, drift = solver.state(), _drift(samples, new_samples)
                samples = new_samples
                facts = {"loss": loss, "drift": drift}
                self.training.history.append({"step": solver.done, **facts, "seconds": self.training.seconds})
                plateau = plateau + 1 if drift < self.tolerance else 0
                self.training.stopped = "plateau" if plateau >= _PATIENCE else "steps"
                self._report(facts)
            elif solver.done % max(1, self.interval // 5) == 0:
                self._report({"loss": loss})
            if time.monotonic() - self.saved_at > SAVE_SECONDS:
                self.save()

    def save(self) -> None:
        """Write the checkpoint, if there is one."""
        if self.checkpoint is not None:
            self.checkpoint.save(self.training)
        self.saved_at = time.monotonic()

    def _report(self, facts: dict[str, float]) -> None:
        self.progress(Tick(f"train {self.solver.name}", self.solver.done, self.solver.settings.steps, facts))

    def _diverged(self, state: dict[str, Tensor], reason: str) -> None:
        step = self.solver.done
        self.solver.restore(state)
        self.save()
        where = f" in {self.checkpoint.path}" if self.checkpoint else ""
        raise DivergenceError(
            f"{self.solver.name} diverged at step {step} ({reason}); the state of step {self.solver.done} is kept"
            f"{where}: lower the learning rate, or scale the distributions"
        )


def _drift(old: Tensor, new: Tensor) -> float:
    variance = float(new.var(dim=0).sum())
    return float((new - old).square().sum(dim=1).mean()) / max(variance, 1e-30)


class _TrainingCheckpoint:
    """The checkpoint of a training, in safetensors."""

    def __init__(self, path: Path, solver: Solver[Any]) -> None:
        self.path = path
        facts = {"solver": solver.name, "settings": asdict(solver.settings), "seed": solver.seed, "layout": _LAYOUT}
        self._fingerprint = json.dumps(facts | {"problem": solver.problem.fingerprint()}, sort_keys=True)

    def save(self, training: Training) -> None:
        """Write the checkpoint atomically."""
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
        """Restore a saved state.

        Raises
        ------
        UsageError
            If the checkpoint is of another training.
        CheckpointError
            If it is damaged.
        """
        if not self.path.is_file():
            return
        try:
            self._load(training)
        except (SafetensorError, OSError, LookupError, ValueError, TypeError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"{self.path} is damaged ({reason}): remove it to begin again") from error

    def _load(self, training: Training) -> None:
        with safe_open(str(self.path), framework="pt") as stored:
            facts = stored.metadata() or {}
            if facts.get("fingerprint") != self._fingerprint:
                raise UsageError(
                    f"{self.path} holds another training (other problem, settings, seed or version): "
                    "name another file, or remove it"
                )
            training.solver.restore({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118
        training.history[:] = parse_json(facts["history"])
        training.seconds, training.stopped = float(facts["seconds"]), facts["stopped"]
