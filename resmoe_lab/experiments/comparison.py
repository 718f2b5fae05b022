"""One call from a checkpoint and methods to a table of scores with error bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pandas as pd

from .._core.deprecation import renamed_arguments
from .._core.params import KEEP
from .._core.progress import Progress, silent, tracked
from ..centers import DEFAULT_CENTER
from ..checkpoint import Checkpoint
from ..runtime import load_pair
from ..scoring.outcome import Outcome
from ..scoring.pairing import Difference, paired_difference
from ..scoring.score_cache import ScoreCache
from ..scoring.scorer import Limit, Protocol, TaskResult, TaskScorer
from ..scoring.tasks import EMBEDDED_TASKS
from ..store.layout import DEFAULT_STORAGE, Storage
from .runner import EqualBy, VariantRunner, original_key
from .shift_scores import ShiftMeter
from .variants import ORIGINAL, Variant

COLUMNS = (
    *("task", "metric", "main", "method", "center", "keep", "true_bytes", "original_bytes", "value", "stderr", "n"),
    *("difference", "difference_stderr", "low", "high", "p_value", "cached", "rerouted", "gate_kl"),
)
_NO_DIFFERENCE = Difference(math.nan, math.nan, math.nan, math.nan, math.nan)


def score_checkpoint(checkpoint: Checkpoint, scorer: TaskScorer, *, device: str = "cpu") -> dict[str, TaskResult]:
    """Score a checkpoint, packed or not; it is loaded only if some task is not in the scorer's cache.

    Parameters
    ----------
    checkpoint
        The model.
    scorer
        Tasks and protocol.
    device
        Where the model runs.
    """
    return scorer.score(original_key(checkpoint), lambda: nullcontext(load_pair(checkpoint, device=device)))


@renamed_arguments(calibrate="calibration", book="cache")
def score_methods(
    checkpoint: Checkpoint,
    *,
    methods: Sequence[str],
    keep: float = KEEP.default,
    layers: Sequence[int] | None = None,
    center: str = DEFAULT_CENTER,
    storage: Storage = DEFAULT_STORAGE,
    equal: EqualBy = "keep",
    tasks: Sequence[str] = EMBEDDED_TASKS,
    limit: Limit = None,
    protocol: Protocol = "paper",
    calibration: str | None = None,
    seed: int = 0,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    cache: ScoreCache | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Score a model and compressed forms of it, each compared with the original row by row.

    Parameters
    ----------
    checkpoint
        The model, not packed.
    methods, keep, equal
        What is compared: see :meth:`~.runner.VariantRunner.variants`.
    layers, center, storage, calibration, seed, device
        How the model is compressed and run: see :class:`~.runner.VariantRunner`.
    tasks, limit, protocol, data_dir, cache
        How it is scored: see :class:`~..scoring.scorer.TaskScorer`.
    progress
        Called after every batch; raising from it stops, and the next call resumes.

    Returns
    -------
    pandas.DataFrame
        One row for each figure of each task and method, the original first: ``task, metric, main`` (whether it is the
        task's main figure), ``method, center, keep, true_bytes, original_bytes`` (of the compressed layers'
        experts), ``value, stderr, n``; for main figures ``difference`` to the original, ``difference_stderr, low,
        high`` (95 % bootstrap) and ``p_value`` (McNemar, for accuracies); ``cached``: whether it came from the cache;
        ``rerouted, gate_kl``: the share of a text's tokens that take other experts than in the original, and the KL of
        the gate in nats, means over the layers.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> checkpoint = rl.open_checkpoint("mixtral-tiny")
    >>> table = rl.score_methods(checkpoint, methods=["up"], layers=[0], tasks=["storyworld_action"], limit=4)
    >>> table[["method", "keep", "task", "metric", "n"]]
         method  keep               task metric  n
    0  original  1.00  storyworld_action    acc  4
    1        up  0.25  storyworld_action    acc  4
    """
    scorer = TaskScorer(tasks, protocol=protocol, limit=limit, data_dir=data_dir, cache=cache, progress=progress)
    with VariantRunner(
        checkpoint,
        layers=layers,
        center=center,
        storage=storage,
        calibration=calibration,
        seed=seed,
        data_dir=data_dir,
        device=device,
        progress=progress,
    ) as runner:
        return score_variants(runner, runner.variants(methods, keep=keep, equal=equal), scorer, progress=progress)


def score_variants(
    runner: VariantRunner, variants: Sequence[Variant], scorer: TaskScorer, *, progress: Progress = silent
) -> pd.DataFrame:
    """Score variants of a model: the table of :func:`score_methods`.

    Parameters
    ----------
    runner
        The model, in its ``with`` block.
    variants
        What is scored; the others are compared with the original if it is the first.
    scorer
        Tasks and protocol.
    progress
        Called after every variant.
    """
    rows: list[tuple[Any, ...]] = []
    original: dict[str, TaskResult] = {}
    meter = ShiftMeter(runner, scorer)
    for variant in tracked(variants, "methods", progress):
        results = runner.score(variant, scorer, then=meter.wanted(variant))
        shift = meter.shift(variant)
        facts = (variant.method, variant.center, variant.mean_keep, *runner.stored_bytes(variant))
        for name, result in results.items():
            references = original[name].outcomes if original else [None] * len(result.outcomes)
            for outcome, reference in zip(result.outcomes, references, strict=True):
                figures = _rows(outcome, reference, facts, result.cached)
                rows += [(*row, shift.rerouted, shift.gate_kl) for row in figures]
        if variant.method == ORIGINAL:
            original = results
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(outcome: Outcome, reference: Outcome | None, facts: tuple[Any, ...], cached: bool) -> list[tuple[Any, ...]]:
    """One row for each figure; the main one with its difference to the reference, where rows are known."""
    difference = _NO_DIFFERENCE
    if reference is not None and len(outcome.rows):
        difference = paired_difference(reference, outcome)
    rows = []
    for number, score in enumerate(outcome.scores):
        compared = difference if number == 0 else _NO_DIFFERENCE
        figures = (score.value, score.stderr, score.n, *astuple(compared), cached)
        rows.append((score.task, score.metric, number == 0, *facts, *figures))
    return rows
