"""Zero-shot scores of one compressed model beside the original's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from ... import plots
from ..._core.progress import Progress, Tick, silent
from ...checkpoint import Checkpoint
from ...evaluate.sweep import ORIGINAL
from ...evaluate.tasks import find_task
from ...evaluate.zeroshot import evaluate_model
from ...experts import ExpertStack
from ...methods import METHODS
from ...runtime import restored_experts
from ..layer import open_layer
from ..model import running_model
from ._base import View


@dataclass(frozen=True, eq=False)
class ScoresView(View):
    """Scores.

    Parameters
    ----------
    scores
        Columns ``label, method, keep, task, metric, value, stderr, n``; the original model's rows first.
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
    center: str = "wasserstein",
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


def _restored(
    checkpoint: Checkpoint, layer: int, *, method: str, keep: float, center: str, progress: Progress
) -> ExpertStack:
    bench = open_layer(checkpoint, layer, center=center, progress=progress).value
    progress(Tick(f"compressing layer {layer}", 0))
    compressed = METHODS[method]().compress(bench.stack, keep, bench.common)
    return bench.stack.with_weights(compressed.restore())
