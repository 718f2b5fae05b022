"""Similarity, norms and routing load of a layer's experts, and the diagnosis."""

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
from ...analysis.spectra import SharingTree, Spectra, expert_distances, expert_spectra, sharing_tree
from ...centers import DEFAULT_CENTER, Statistics
from ...checkpoint import Checkpoint
from ...experts import ExpertStack, family_of
from ...scoring.calibration import calibrate, calibration_requests
from ..layer import open_layer
from ..model import running_model
from ._base import View

#: Text that the routing load is measured on, and how many tokens of it.
_TEXT, _TOKENS = "storyworld_perplexity", 4096
#: Memory to run a model, as a multiple of half its size in float32.
_MEMORY_FACTOR = 3


@dataclass(frozen=True, eq=False)
class ExpertsView(View):
    """One layer's experts.

    Parameters
    ----------
    center
        Name of the center that the experts are aligned with.
    diagnosis
        What a center would gain.
    unaligned, aligned
        (N, N) cosine similarity of the experts as stored, and aligned with the center.
    norms
        Columns ``layer, expert, part, norm``: Frobenius norm of each part, of the ``whole`` expert and of its
        ``residual`` from the center.
    load
        Columns ``layer, expert, share``: share of the tokens that each expert receives; None if not measured.
    load_missing
        Why it was not measured.
    spectra
        Singular values of each expert's parts, and the exponents of their tails.
    distances
        (N, N): how far the aligned experts lie apart, see :func:`~resmoe_lab.analysis.spectra.expert_distances`.
    tree
        Which of them could share a center.
    """

    center: str
    diagnosis: Diagnosis
    unaligned: np.ndarray
    aligned: np.ndarray
    norms: pd.DataFrame
    load: pd.DataFrame | None
    load_missing: str
    spectra: Spectra
    distances: np.ndarray
    tree: SharingTree

    def charts(self) -> Mapping[str, Any]:
        """Return similarity, norms, spectra, the tree of those that could share a center, and load."""
        layer = self.diagnosis.layer
        charts = {"similarity": plots.similarity_heatmap({layer: self.aligned}), "norms": plots.norm_bars(self.norms)}
        charts["spectrum"] = plots.spectrum_lines(self.spectra.values, self.spectra.exponents)
        charts["sharing"] = plots.sharing_dendrogram(self.tree.links, self.tree.groups, layer=layer)
        if self.load is not None:
            charts["load"] = plots.routing_load(self.load)
        return charts

    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Return similarities and distances of all pairs, norms, spectra, groups, load, and every center's gain."""
        layer, count = self.diagnosis.layer, len(self.aligned)
        measured = self.unaligned, self.aligned, self.distances
        pairs = [(layer, i, j, *(one[i, j] for one in measured)) for i in range(count) for j in range(count)]
        similarity = pd.DataFrame(pairs, columns=["layer", "expert", "other", "as_they_stand", "aligned", "distance"])
        gains = [(layer, center, gain) for center, gain in self.diagnosis.residual_gain.items()]
        tables = {"similarity": similarity, "norms": self.norms}
        tables |= {"spectra": self.spectra.values, "exponents": self.spectra.exponents}
        groups = [(layer, expert, group) for expert, group in self.tree.groups.items()]
        tables["groups"] = pd.DataFrame(groups, columns=["layer", "expert", "group"])
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
    """Compute similarity, norms, spectra, routing load and diagnosis of a layer's experts.

    Parameters
    ----------
    checkpoint, layer
        The experts.
    center
        Name of the center that they are aligned with.
    keep
        Kept fraction at which the diagnosis compares methods.
    routing
        Run the model on text to measure each expert's share of the tokens.
    progress
        Called at every step; raising from it cancels.
    """
    loaded = open_layer(checkpoint, layer, center=center, progress=progress).value
    statistics, missing = None, "The routing load was not requested."
    if routing:
        statistics, missing = _measure_routing(checkpoint, layer, progress)
    progress(Tick("diagnosis", 1, 2))
    centers = [center, *(name for name in DEFAULT_CENTERS if name != center)]
    diagnosis = diagnose(loaded.stack, centers=centers, keep=keep, statistics=statistics, progress=progress)
    distances = expert_distances(loaded.stack, loaded.center)
    return ExpertsView(
        center=center,
        diagnosis=diagnosis,
        unaligned=expert_similarity(loaded.stack),
        aligned=expert_similarity(loaded.stack, loaded.center),
        norms=_norms(loaded.stack, loaded.center.residuals(loaded.stack)),
        load=None if statistics is None else _load(layer, statistics),
        load_missing=missing,
        spectra=expert_spectra(loaded.stack),
        distances=distances,
        tree=sharing_tree(distances),
    )


def _measure_routing(checkpoint: Checkpoint, layer: int, progress: Progress) -> tuple[Statistics | None, str]:
    """Measure the layer's routing load on text, or return why it cannot be measured."""
    need = _MEMORY_FACTOR * sum(4 * math.prod(info.shape) for info in checkpoint.tensors.values()) // 2
    if need > available_bytes():
        return None, f"The routing load was not measured: running the model takes about {need / 1e9:.0f} GB."
    try:
        with running_model(checkpoint, progress) as (model, tokenizer):
            requests = calibration_requests(model, tokenizer, text=_TEXT, tokens=_TOKENS)
            statistics = calibrate(
                model, family_of(checkpoint), requests, layers=[layer], source=_TEXT, progress=progress
            )
    except (CheckpointError, DataError) as error:
        return None, f"The routing load was not measured: {error}"
    return statistics[layer], ""


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
