"""What the experts of a layer are: how alike, how large, how busy, and what follows from that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ... import plots
from ..._core.errors import CheckpointError, DataError
from ..._core.machine import available_bytes
from ..._core.progress import Progress, Tick, silent
from ...analysis.diagnosis import DEFAULT_CENTERS, Diagnosis, diagnose
from ...analysis.similarity import expert_similarity
from ...centers import DEFAULT_CENTER, Statistics
from ...checkpoint import Checkpoint
from ...experts import ExpertStack, family_of
from ...scoring.calibration import calibrate, calibration_requests
from ..layer import open_layer
from ..model import running_model
from ._base import View

#: Text that the routers are watched on, and how much of it.
_TEXT, _TOKENS = "storyworld_perplexity", 4096
#: A model in float32 next to what else is in memory.
_ROOM = 3


@dataclass(frozen=True, eq=False)
class ExpertsView(View):
    """One layer's experts.

    Parameters
    ----------
    center
        Who aligned them.
    diagnosis
        What a common expert would gain.
    standing, aligned
        (N, N) cosine similarity of the experts as they stand, and in the order of the center.
    norms
        Columns ``layer, expert, part, norm``: Frobenius norm of each part, of the ``whole`` expert and of its
        ``residual`` from the center.
    load
        Columns ``layer, expert, share``: share of the tokens that each expert receives; None if not measured.
    load_missing
        Why it was not.
    """

    center: str
    diagnosis: Diagnosis
    standing: np.ndarray
    aligned: np.ndarray
    norms: pd.DataFrame
    load: pd.DataFrame | None
    load_missing: str

    def charts(self) -> Mapping[str, Any]:
        """Similarity, norms and load."""
        layer = self.diagnosis.layer
        charts = {"similarity": plots.similarity_heatmap({layer: self.aligned}), "norms": plots.norm_bars(self.norms)}
        if self.load is not None:
            charts["load"] = plots.routing_load(self.load)
        return charts

    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Similarities of all pairs, norms, load, and the gain of every center."""
        layer, count = self.diagnosis.layer, len(self.aligned)
        pairs = [(layer, i, j, self.standing[i, j], self.aligned[i, j]) for i in range(count) for j in range(count)]
        similarity = pd.DataFrame(pairs, columns=["layer", "expert", "other", "as_they_stand", "aligned"])
        gains = [(layer, center, gain) for center, gain in self.diagnosis.residual_gain.items()]
        tables = {"similarity": similarity, "norms": self.norms}
        tables["gain"] = pd.DataFrame(gains, columns=["layer", "center", "gain"])
        return tables if self.load is None else {**tables, "load": self.load}


def view_experts(
    checkpoint: Checkpoint,
    layer: int,
    *,
    center: str = DEFAULT_CENTER,
    keep: float = 0.25,
    routing: bool = True,
    progress: Progress = silent,
) -> ExpertsView:
    """Look at the experts of a layer.

    Parameters
    ----------
    checkpoint, layer
        Which experts.
    center
        The center that they are aligned with.
    keep
        Kept fraction at which the diagnosis compares methods.
    routing
        Run the model on text to see who receives the tokens.
    progress
        Told every step; raising from it cancels.
    """
    bench = open_layer(checkpoint, layer, center=center, progress=progress).value
    statistics, missing = None, "The router's load was not asked for."
    if routing:
        statistics, missing = _watched(checkpoint, layer, progress)
    progress(Tick("diagnosis", 1, 2))
    centers = [center, *(name for name in DEFAULT_CENTERS if name != center)]
    found = diagnose(bench.stack, centers=centers, keep=keep, statistics=statistics, progress=progress)
    return ExpertsView(
        center=center,
        diagnosis=found,
        standing=expert_similarity(bench.stack),
        aligned=expert_similarity(bench.stack, bench.center),
        norms=_norms(bench.stack, bench.center.residuals(bench.stack)),
        load=None if statistics is None else _load(layer, statistics),
        load_missing=missing,
    )


def _watched(checkpoint: Checkpoint, layer: int, progress: Progress) -> tuple[Statistics | None, str]:
    """Watch the layer's router on text; where that cannot be, say why."""
    need = _ROOM * sum(4 * math.prod(info.shape) for info in checkpoint.tensors.values()) // 2
    if need > available_bytes():
        return None, f"The router's load was not measured: running the model takes about {need / 1e9:.0f} GB."
    try:
        with running_model(checkpoint, progress) as (model, tokenizer):
            requests = calibration_requests(model, tokenizer, text=_TEXT, tokens=_TOKENS)
            known = calibrate(model, family_of(checkpoint), requests, layers=[layer], source=_TEXT, progress=progress)
    except (CheckpointError, DataError) as error:
        return None, f"The router's load was not measured: {error}"
    return known[layer], ""


def _load(layer: int, statistics: Statistics) -> pd.DataFrame:
    rows = [(layer, expert, float(share)) for expert, share in enumerate(statistics.usage)]
    return pd.DataFrame(rows, columns=["layer", "expert", "share"])


def _norms(stack: ExpertStack, residuals: Any) -> pd.DataFrame:
    rows = []
    for expert, (weights, residual) in enumerate(zip(stack.weights, residuals, strict=True)):
        parts = {block.name: weights[:, block.start : block.stop] for block in stack.blocks}
        for part, matrix in {**parts, "whole": weights, "residual": residual}.items():
            rows.append((stack.layer, expert, part, float(matrix.double().norm())))
    return pd.DataFrame(rows, columns=["layer", "expert", "part", "norm"])
