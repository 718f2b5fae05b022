"""Forecast of what a sweep will take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._core.progress import Progress, Tick, silent
from ..checkpoint import Checkpoint
from ..compress import CompressionConfig, forecast_run
from ..methods import METHODS
from ..scoring.tasks import find_task
from ..scoring.zeroshot import evaluate_model, task_size
from .sweep import ROUTING_TASK, UNIT
from .sweep_config import SweepConfig
from .variants import CENTER_ONLY, ORIGINAL

#: Rows of each task that are scored to measure this machine's speed: few, then more, so that fixed costs cancel.
_SAMPLE_SIZES = 4, 20


@dataclass(frozen=True)
class SweepForecast:
    """What a sweep will take on this machine.

    Parameters
    ----------
    scores
        Variants to be scored, the original and the centers alone included.
    done
        How many of them are in the folder already.
    seconds
        Time for the rest.
    seconds_a_score
        Time for one of them.
    """

    scores: int
    done: int
    seconds: float
    seconds_a_score: float


def forecast_sweep(
    checkpoint: Checkpoint,
    out: str | Path,
    config: SweepConfig,
    *,
    running: tuple[Any, Any],
    data_dir: str | Path | None = None,
    progress: Progress = silent,
) -> SweepForecast:
    """Time a few rows of each task and this machine's speed at the methods, and add up the rest.

    Parameters
    ----------
    checkpoint, out, config, data_dir
        As for :func:`~resmoe_lab.experiments.run_sweep.run_sweep`; nothing is written.
    running
        The checkpoint's model and tokenizer.
    progress
        Called before every measurement; raising from it cancels.
    """
    steps = [*config.tasks, *config.methods]
    seconds_a_score = 0.0
    for done, name in enumerate(config.tasks):
        progress(Tick("measuring", done, len(steps), {"task": name}))
        seconds_a_score += _task_seconds(running, name, limit=config.limit, data_dir=data_dir)
    compressing, centers = 0.0, 0.0
    scored_keeps = {name: config.scored_keeps(name) for name in config.methods}
    for done, name in enumerate(config.methods, start=len(config.tasks)):
        progress(Tick("measuring", done, len(steps), {"method": name}))
        scored = scored_keeps[name]
        if not scored:
            continue
        compression = CompressionConfig(
            method=name, keep=max(scored), layers=config.layers, center=config.center, export="dense"
        )
        run = forecast_run(checkpoint, out, compression)
        compressing += run.seconds * len(scored)
        centers = max(centers, run.seconds if METHODS[name].uses_center else 0.0)
    names = [
        f"{ORIGINAL}-1",
        f"{CENTER_ONLY}-0",
        *(f"{name}-{keep:g}" for name in config.methods for keep in scored_keeps[name]),
    ]
    # The load of the routers is measured at the end.
    routing = _task_seconds(running, ROUTING_TASK, limit=config.limit, data_dir=data_dir)
    finished = sum((Path(out) / f"{UNIT}{name}.json").is_file() for name in names)
    left = 1 - finished / len(names)
    seconds = centers + routing + left * (len(names) * seconds_a_score + compressing)
    return SweepForecast(len(names), finished, seconds, seconds_a_score)


def _task_seconds(running: tuple[Any, Any], name: str, *, limit: int | None, data_dir: str | Path | None) -> float:
    """Seconds that one model takes on a task, from two samples of its rows."""
    timings = []
    for count in _SAMPLE_SIZES:
        begun = time.perf_counter()
        [score, *_] = evaluate_model(*running, tasks=[name], limit=count, data_dir=data_dir)
        timings.append((score.n, time.perf_counter() - begun))
    (few, short), (more, long) = timings
    rate = max(long - short, 0.0) / (more - few) if more > few else long / max(1, more)
    rate = rate or long / max(1, more)
    return rate * task_size(*running, find_task(name), limit=limit, data_dir=data_dir)
