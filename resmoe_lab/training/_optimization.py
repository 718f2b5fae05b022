"""The optimizer steps of a training: learning rates, clipping, the log, and a state that a stopped run resumes from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import torch

from .._core.progress import Progress, Tick
from ..zoo.recipes import Phase
from ._training_state import TrainingState


class Losses(NamedTuple):
    """The losses of one batch.

    Parameters
    ----------
    cross_entropy
        In nats per token; the one that is logged.
    balance
        The routers' balancing loss, if there are routers.
    """

    cross_entropy: torch.Tensor
    balance: torch.Tensor | None = None


@dataclass(frozen=True)
class Reporting:
    """How a training reports.

    Parameters
    ----------
    phase, task
        Its name in the log, and in the progress.
    steps_per_report, steps_per_save
        Steps between two rows of the log, and between two saved states.
    smoothing
        Weight of the past in the running mean of the loss.
    columns
        Called with the losses of the last step for further columns of a row of the log.
    shown
        Names of the columns that the progress shows.
    """

    phase: str
    task: str
    steps_per_report: int
    steps_per_save: int
    smoothing: float
    columns: Callable[[Losses], dict[str, Any]] = lambda losses: {}
    shown: tuple[str, ...] = ("loss",)


def learning_rate(phase: Phase, *, step: int, steps: int) -> float:
    """Return a phase's learning rate at a step: linear warm-up to the peak, then a half cosine down to the end."""
    if step < phase.warmup_steps:
        return phase.peak_lr * (step + 1) / phase.warmup_steps
    fraction = (step - phase.warmup_steps) / max(1, steps - phase.warmup_steps)
    return phase.end_lr + (phase.peak_lr - phase.end_lr) * 0.5 * (1 + math.cos(math.pi * fraction))


class OptimizerLoop:
    """Runs the steps of one phase of a training, from where a stopped run of it ended.

    Parameters
    ----------
    module
        What is trained, and saved in the state.
    optimizer
        Of its parameters; a group's ``share`` multiplies its learning rate.
    saved
        The state on disk, which is loaded at once.
    log
        Rows so far, with those of earlier phases; new ones are appended.

    Attributes
    ----------
    first : int
        Number of steps done by earlier runs.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        saved: TrainingState,
        log: list[dict[str, Any]],
    ) -> None:
        self._module, self._optimizer, self._saved, self._log = module, optimizer, saved, log
        self.first = saved.load(module, optimizer, log)

    def run(
        self,
        batches: Iterator[Any],
        losses: Callable[[Any], Losses],
        *,
        balance: float,
        schedule: Phase,
        steps: int,
        reporting: Reporting,
        progress: Progress,
    ) -> None:
        """Run the steps that are left, over the batches of all steps.

        Parameters
        ----------
        batches
            One a step; those of steps already done are skipped.
        losses
            Computes the losses of a batch.
        balance
            Weight of the balancing loss.
        schedule, steps
            The learning rates, and the number of steps.
        reporting
            What is logged and when.
        progress
            Called with every row of the log; raising from it stops.
        """
        begun = time.perf_counter() - (self._log[-1]["seconds"] if self.first else 0.0)
        smooth = self._log[-1]["loss"] if self.first else math.nan
        for step, batch in enumerate(islice(batches, self.first, steps), start=self.first):
            current = losses(batch)
            self._step(current, balance, learning_rate(schedule, step=step, steps=steps))
            loss = float(current.cross_entropy.detach())
            smooth = loss if math.isnan(smooth) else reporting.smoothing * smooth + (1 - reporting.smoothing) * loss
            done = step + 1
            if done % reporting.steps_per_report == 0 or done == steps:
                row = {"phase": reporting.phase, "step": done, "loss": smooth, "seconds": time.perf_counter() - begun}
                self._log.append(row | reporting.columns(current))
                progress(Tick(reporting.task, done, steps, {name: self._log[-1][name] for name in reporting.shown}))
            if done % reporting.steps_per_save == 0 or done == steps:
                self._saved.save(self._module, self._optimizer, self._log, step=done)

    def _step(self, losses: Losses, balance: float, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = group.get("share", 1.0) * rate
        total = losses.cross_entropy if losses.balance is None else losses.cross_entropy + balance * losses.balance
        total.backward()
        torch.nn.utils.clip_grad_norm_(self._module.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
