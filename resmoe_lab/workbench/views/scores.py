"""Zero-shot scores of one compressed model beside the original's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from ... import plots
from ..._core.progress import Progress, Tick, silent
from ...centers import DEFAULT_CENTER, Center
from ...checkpoint import Checkpoint
from ...experiments.comparison import Protocol, TaskScorer, score_variants
from ...experiments.sweep import ORIGINAL
from ...experiments.variants import Variants
from ...experts import ExpertStack
from ...methods import METHODS
from ...runtime import restored_experts
from ...scoring.score_cache import ScoreBook
from ...scoring.tasks import find_task
from ...scoring.zeroshot import evaluate_model
from ..layer import open_layer
from ..model import running_model
from ._base import View


@dataclass(frozen=True, eq=False)
class ScoresView(View):
    """Scores.

    Parameters
    ----------
    scores
        Columns ``label, method, keep, task, metric, value, stderr, n``; the original model's rows first. Of a
        comparison also the other columns of :func:`~resmoe_lab.experiments.comparison.score_methods`.
    """

    scores: pd.DataFrame

    def main(self) -> pd.DataFrame:
        """The first score of every task."""
        return self.scores.drop_duplicates(["label", "task"])

    def charts(self) -> Mapping[str, Any]:
        """One chart of all tasks."""
        return {"scores": plots.score_bars(self.main())}

    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Every score with its standard error."""
        return {"scores": self.scores}


def view_scores(
    checkpoint: Checkpoint,
    layers: Sequence[int],
    *,
    method: str,
    keeps: Mapping[int, float] | float,
    center: str = DEFAULT_CENTER,
    tasks: Sequence[str],
    limit: int | None = None,
    original: bool = True,
    progress: Progress = silent,
) -> ScoresView:
    """Score a model with some layers compressed, and as it was.

    Parameters
    ----------
    checkpoint, layers
        The model, and which of its layers are compressed.
    method, center
        How.
    keeps
        Kept fraction of all layers, or of each.
    tasks, limit
        What is scored, on how many rows.
    original
        Also score the model as it was.
    progress
        Told after every batch; raising from it cancels.

    Raises
    ------
    CheckpointError, DataError, UsageError
        If the model cannot be run, a task's rows are missing, or an argument is not allowed.
    """
    for name in tasks:
        find_task(name).check(limit=limit)
    per_layer = dict(keeps) if isinstance(keeps, Mapping) else dict.fromkeys(layers, keeps)
    label = f"{method} at {keeps:g}" if isinstance(keeps, float) else f"{method}, keep by layer"
    rows: list[dict[str, Any]] = []

    def score(model: Any, tokenizer: Any, **facts: Any) -> None:
        found = evaluate_model(model, tokenizer, tasks=tasks, limit=limit, progress=progress)
        rows.extend(facts | asdict(one) for one in found)

    restored = [
        _restored(checkpoint, layer, method=method, keep=per_layer[layer], center=center, progress=progress)
        for layer in layers
    ]
    with running_model(checkpoint, progress) as (model, tokenizer):
        if original:
            score(model, tokenizer, label=ORIGINAL, method=ORIGINAL, keep=1.0)
        with restored_experts(model, checkpoint, restored):
            score(model, tokenizer, label=label, method=method, keep=sum(per_layer.values()) / len(per_layer))
    return ScoresView(pd.DataFrame(rows))


def view_comparison(
    checkpoint: Checkpoint,
    layers: Sequence[int],
    *,
    method: str,
    keep: float,
    center: str = DEFAULT_CENTER,
    tasks: Sequence[str],
    limit: int | None = None,
    protocol: Protocol = "paper",
    book: ScoreBook | None = None,
    progress: Progress = silent,
) -> ScoresView:
    """Score a model with some layers compressed and as it was, and compare the two row by row.

    Parameters
    ----------
    checkpoint, layers, method, keep, center
        The model, and how which of its layers are compressed.
    tasks, limit, protocol, book
        As for :class:`~resmoe_lab.experiments.comparison.TaskScorer`; scores that are remembered run nothing.
    progress
        Told after every batch; raising from it cancels, and the next call goes on.

    Raises
    ------
    CheckpointError, DataError, UsageError
        If the model cannot be run, a task's rows are missing, or an argument is not allowed.
    """
    scorer = TaskScorer(tasks, limit=limit, protocol=protocol, book=book, progress=progress)
    how: dict[str, Any] = {"methods": [method], "keep": keep, "layers": layers, "center": center}
    with _OpenVariants(checkpoint, **how, progress=progress) as variants:
        scores = score_variants(variants, scorer, progress=progress)
    labels = {ORIGINAL: ORIGINAL, method: f"{method} at {keep:g}"}
    scores.insert(0, "label", scores["method"].map(labels))
    return ScoresView(scores)


class _OpenVariants(Variants):
    """Forms of a model that the workbench has open already: its layers, their centers and the running model."""

    def _open(self) -> tuple[Any, Any]:
        return self._kept.enter_context(running_model(self.checkpoint, self._progress))

    def _stack(self, layer: int) -> ExpertStack:
        return open_layer(self.checkpoint, layer, center=self._center, progress=self._progress).value.stack

    def _find_center(self, layer: int) -> Center:
        return open_layer(self.checkpoint, layer, center=self._center, progress=self._progress).value.center


def _restored(
    checkpoint: Checkpoint, layer: int, *, method: str, keep: float, center: str, progress: Progress
) -> ExpertStack:
    bench = open_layer(checkpoint, layer, center=center, progress=progress).value
    progress(Tick(f"compressing layer {layer}", 0))
    compressed = METHODS[method]().compress(bench.stack, keep, bench.center)
    return bench.stack.with_weights(compressed.restore())
