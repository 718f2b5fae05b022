"""Zero-shot scores of a compressed model and of the original."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ... import plots
from ..._core.errors import UsageError
from ..._core.progress import Progress, silent
from ...checkpoint import Checkpoint
from ...experiments.comparison import score_variants
from ...experiments.sweep import Sweep, scores_with_shift
from ...experiments.variants import ORIGINAL
from ...plots.series import goes_by_bits, variant_label
from ...scoring.score_cache import ScoreCache
from ...scoring.scorer import Limit, Protocol, TaskScorer
from ..runner import WorkbenchRunner
from ._base import View


@dataclass(frozen=True, eq=False)
class ScoresView(View):
    """Scores.

    Parameters
    ----------
    scores
        Column ``label`` and those of :func:`~resmoe_lab.experiments.comparison.score_methods`; the original model's
        rows first.
    """

    scores: pd.DataFrame

    @classmethod
    def of_sweep(cls, sweep: Sweep, method: str, keep: float) -> ScoresView | None:
        """Return the scores of a sweep at the kept fraction that is nearest, or None if it has no such method.

        A sweep has no differences row by row: their columns are empty.
        """
        own = sweep.scores[sweep.scores["method"] == method]
        if own.empty:
            return None
        nearest = float(own["keep"].iloc[int((own["keep"] - keep).abs().argmin())])
        scores = scores_with_shift(sweep)
        is_own = (scores["method"] == method) & (scores["keep"] == nearest)
        rows = pd.concat([scores[scores["method"] == ORIGINAL], scores[is_own]])
        table = rows.reset_index(drop=True)
        table.insert(0, "label", table["method"].map({ORIGINAL: ORIGINAL, method: variant_label(method, nearest)}))
        empty = dict.fromkeys(("difference", "low", "high", "p_value"), math.nan)
        return cls(table.assign(**empty, cached=True))

    def main(self) -> pd.DataFrame:
        """Return the main score of every task."""
        return self.scores.drop_duplicates(["label", "task"])

    def charts(self) -> Mapping[str, Any]:
        """Return one chart of all tasks."""
        return {"scores": plots.score_bars(self.main())}

    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Return every score with its standard error."""
        return {"scores": self.scores}


def view_scores(
    checkpoint: Checkpoint,
    layers: Sequence[int],
    *,
    method: str,
    keeps: Mapping[int, float] | float,
    center: str = "wasserstein",
    tasks: Sequence[str],
    limit: Limit = None,
    protocol: Protocol = "paper",
    cache: ScoreCache | None = None,
    original: bool = True,
    progress: Progress = silent,
) -> ScoresView:
    """Score a model with some layers compressed, and the original, and compare the two row by row.

    Parameters
    ----------
    checkpoint, layers
        The model, and the layers that are compressed.
    method, center
        Names of the method and of the center.
    keeps
        Kept fraction of all layers, or of each.
    tasks, limit, protocol, cache
        As for :class:`~resmoe_lab.scoring.scorer.TaskScorer`; the model does not run for scores that are cached.
    original
        Also score the original model.
    progress
        Called after every batch; raising from it cancels, and the next call resumes.

    Raises
    ------
    CheckpointError, DataError, UsageError
        If the model cannot be run, a task's rows are missing, or an argument is not allowed.
    """
    if not tasks:
        raise UsageError("nothing to score: choose at least one task")
    scorer = TaskScorer(tasks, limit=limit, protocol=protocol, cache=cache, progress=progress)
    with WorkbenchRunner(checkpoint, layers=layers, center=center, progress=progress) as runner:
        variants = [runner.original] if original else []
        scores = score_variants(runner, [*variants, runner.variant(method, keeps)], scorer, progress=progress)
    if isinstance(keeps, Mapping):
        label = f"{method}, {'bits' if goes_by_bits(method) else 'keep'} by layer"
    else:
        label = variant_label(method, keeps)
    scores.insert(0, "label", scores["method"].map({ORIGINAL: ORIGINAL, method: label}))
    return ScoresView(scores)
