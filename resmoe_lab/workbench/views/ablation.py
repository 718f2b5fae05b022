"""What a model loses without each of its experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ... import plots
from ..._core.progress import Progress, silent
from ...centers import DEFAULT_CENTER
from ...checkpoint import Checkpoint
from ...experiments.divergence import TEXT
from ...experiments.expert_ablation import TOKENS, ablate_experts
from ..runner import WorkbenchRunner
from ._base import View


@dataclass(frozen=True, eq=False)
class AblationView(View):
    """Every expert taken away, one at a time.

    Parameters
    ----------
    text, tokens
        The task of running text, and how many of its tokens are predicted.
    passage
        The text of the user's own that was predicted instead; empty if there was none.
    ablation
        As :func:`~resmoe_lab.experiments.expert_ablation.ablate_experts` returns it.
    """

    text: str
    passage: str
    tokens: int
    ablation: pd.DataFrame

    def charts(self) -> Mapping[str, Any]:
        """Return the heat map."""
        return {"ablation": plots.ablation_heatmap(self.ablation)}

    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Return one row an expert and replacement."""
        return {"ablation": self.ablation}


def view_ablation(
    checkpoint: Checkpoint,
    *,
    center: str = DEFAULT_CENTER,
    text: str = TEXT,
    passage: str = "",
    tokens: int = TOKENS,
    progress: Progress = silent,
) -> AblationView:
    """Take every expert away, and put its layer's center in its place, one at a time.

    Parameters
    ----------
    checkpoint
        The model.
    center
        Which center.
    text, tokens
        A task of running text, and how many of its tokens are predicted.
    passage
        A text of the user's own, which is predicted instead.
    progress
        Called before every expert; raising from it cancels.

    Raises
    ------
    CheckpointError, DataError, UsageError
        If the model cannot be run, the text is missing, or an argument is not allowed.
    """
    with WorkbenchRunner(checkpoint, center=center, progress=progress) as runner:
        options: dict[str, Any] = {"replaced_by": ("off", "center"), "text": text, "passage": passage, "tokens": tokens}
        table = ablate_experts(runner, **options, progress=progress)
    return AblationView(text, passage, tokens, table)
