"""The tables behind the sliders: error, scores and bytes of each method at each kept fraction."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from .._core.errors import DataError, OutputError
from .._core.files import atomic_write, make_folder
from .._core.parsing import read_arrays, read_json
from .sweep_pictures import SweepPictures

#: What is said of a text's routing layer by layer, and of its predictions.
SHIFT_COLUMNS = ("layer", "tokens", "rerouted", "moved", "gate_kl")
PREDICTION_COLUMNS = ("tokens", "kl", "agreement", "worst")
#: The tidy tables of a sweep and their columns, in order.
TABLES: dict[str, tuple[str, ...]] = {
    "errors": ("layer", "method", "center", "keep", "error", "relative_error"),
    "scores": ("method", "center", "keep", "task", "metric", "value", "stderr", "n"),
    "sizes": (
        *("method", "center", "keep", "format", "paper_bytes", "true_bytes"),
        *("original_bytes", "model_bytes", "original_model_bytes"),
    ),
    "centers": (
        *("layer", "center", "solver", "objective", "relative_objective"),
        *("lower_bound", "certified_gap", "iterations", "seconds"),
    ),
    "routing": ("layer", "expert", "share"),
    "speed": (
        *("way", "weight_bytes", "resident_bytes", "peak_bytes", "load_seconds"),
        *("first_token_seconds", "prompt_tokens_per_second", "tokens_per_second"),
    ),
    "routing_shift": ("method", "center", "keep", *SHIFT_COLUMNS),
    "predictions": ("method", "center", "keep", *PREDICTION_COLUMNS),
}
#: Columns that are words; all others are numbers.
_WORDS = ("method", "center", "task", "metric", "format", "solver", "way")
#: Tables that a sweep does not measure itself, and those that sweeps of older versions lack; empty then.
_OPTIONAL = ("speed", "routing_shift", "predictions")
#: Tables that have rows, whatever was swept and scored.
_NEVER_EMPTY = ("errors", "sizes", "centers")
#: The task on whose running text the load of the routers is measured.
ROUTING_TASK = "storyworld_perplexity"
#: How the files of single variants' scores begin, which a sweep leaves in its folder.
UNIT = "scores-"
_FACTS, _ARRAYS, _PICTURES = "sweep.json", "arrays.npz", "pictures.json"


@dataclass(frozen=True)
class Sweep:
    """The tables of a sweep: everything that a report shows about one checkpoint.

    Parameters
    ----------
    facts
        Model, family, shapes, seed, versions, date, settings: plain JSON values.
    errors
        Approximation error by layer, method, center and keep; ``relative_error`` is its share of the
        experts' mean squared norm.
    scores
        Task scores by method, center and keep. ``method`` is ``"original"`` (keep 1) before any
        compression and ``"center-only"`` (keep 0) when every residual is dropped.
    sizes
        Bytes of all compressed experts at 16 bit by method, center and keep: as the paper counts them (values of the
        residual only) and as they are stored (indices and center included), in ``format``; and of the whole model.
    centers
        One row a layer and center: objective, bound, gap.
    routing
        Share of the tokens that each expert of each layer receives.
    speed
        One row for each way to run a packed checkpoint of the model, as :class:`~resmoe_lab.runtime.bench.Bench` has
        it; empty until :func:`~resmoe_lab.runtime.bench.bench` has measured one.
    similarity
        Layer to (N, N) float array: cosine similarity of the aligned experts' design matrices.
    permutations
        Layer to (N, p_I) int64 array: the permutations T_k onto the center.
    routing_shift
        How much of the routing of a text each variant changes, by layer: see
        :func:`~resmoe_lab.experiments.token_shift.routing_shift`; empty in sweeps of older versions, and of families
        that do not tell which experts a token takes.
    predictions
        How far each variant moves the predictions on that text: mean KL a token and its largest, in nats, and the share
        of tokens with the same likeliest next one.
    pictures
        The map of the checkpoint and that text token by token; None in sweeps of older versions.

    Examples
    --------
    A sweep comes from :func:`~resmoe_lab.run_sweep`, and from its folder again:

    >>> import tempfile
    >>> import resmoe_lab as rl
    >>> checkpoint, folder = rl.open_checkpoint("mixtral-tiny"), tempfile.mkdtemp()
    >>> choices = {"methods": ["up"], "keeps": [0.25], "tasks": ["storyworld_action"], "limit": 4}
    >>> _ = rl.run_sweep(checkpoint, folder, layers=[0], **choices)
    >>> sweep = rl.Sweep.load(folder)
    >>> sweep.facts["model"], list(sweep.scores["method"])
    ('mixtral-tiny', ['original', 'center-only', 'up'])
    """

    facts: dict[str, Any]
    errors: pd.DataFrame
    scores: pd.DataFrame
    sizes: pd.DataFrame
    centers: pd.DataFrame
    routing: pd.DataFrame
    speed: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(TABLES["speed"])))
    similarity: dict[int, np.ndarray] = field(default_factory=dict)
    permutations: dict[int, np.ndarray] = field(default_factory=dict)
    routing_shift: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(TABLES["routing_shift"])))
    predictions: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(TABLES["predictions"])))
    pictures: SweepPictures | None = None

    def save(self, folder: str | Path) -> Path:
        """Write the sweep as CSV tables, one JSON file of facts and one array file; return the folder.

        Raises
        ------
        OutputError
            If it cannot be written there.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is a file, expected a folder for the sweep: name another place")
        make_folder(folder)
        for name, columns in TABLES.items():
            with atomic_write(folder / f"{name}.csv") as part:
                getattr(self, name)[list(columns)].to_csv(part, index=False)
        with atomic_write(folder / _ARRAYS) as part, part.open("wb") as stream:
            arrays = {f"similarity_{layer}": a for layer, a in self.similarity.items()}
            arrays |= {f"permutations_{layer}": a for layer, a in self.permutations.items()}
            np.savez_compressed(stream, allow_pickle=False, **arrays)
        (folder / _PICTURES).unlink(missing_ok=True)
        if self.pictures is not None:
            with atomic_write(folder / _PICTURES) as part:
                part.write_text(self.pictures.model_dump_json(), "utf-8")
        # The facts are written last: a folder that has them is complete.
        with atomic_write(folder / _FACTS) as part:
            part.write_text(json.dumps(self.facts, indent=2, sort_keys=True), "utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Sweep:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DataError
            If the folder holds no finished sweep, or a damaged one.
        """
        folder = Path(folder)
        if not (folder / _FACTS).is_file():
            count = len(list(folder.glob(f"{UNIT}*.json")))
            state = f"{count} scores of one that was stopped" if count else f"{_FACTS} is missing"
            raise DataError(f"{folder} holds no finished sweep ({state}): run 'resmoe-lab sweep' with it as --out")
        try:
            return cls._read(folder)
        except (OSError, ValueError, OverflowError, DataError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"{folder} holds a damaged sweep ({reason}): remove it and run 'resmoe-lab sweep'"
            ) from error

    @classmethod
    def _read(cls, folder: Path) -> Sweep:
        parts: dict[str, Any] = {"similarity": {}, "permutations": {}}
        for name, columns in TABLES.items():
            if name in _OPTIONAL and not (folder / f"{name}.csv").is_file():
                continue
            table = pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])
            if tuple(table.columns) != columns:
                raise DataError(f"{folder / name}.csv has columns {list(table.columns)}, expected {list(columns)}")
            if table.empty and name in _NEVER_EMPTY:
                raise DataError(f"{folder / name}.csv has no rows")
            wrong = [column for column in columns if column not in _WORDS and not is_numeric_dtype(table[column])]
            if wrong and not table.empty:
                raise DataError(f"{folder / name}.csv has {wrong[0]} that are no numbers")
            parts[name] = table
        for key, array in read_arrays(folder / _ARRAYS).items():
            kind, _, layer = key.rpartition("_")
            if kind not in ("similarity", "permutations") or array.ndim != 2:
                raise DataError(f"{folder / _ARRAYS} holds {key!r} {array.shape}, expected matrices of each layer")
            parts[kind][int(layer)] = array
        if (folder / _PICTURES).is_file():
            parts["pictures"] = SweepPictures.read(folder / _PICTURES)
        facts = read_json(folder / _FACTS)
        if not isinstance(facts, dict) or not isinstance(facts.get("settings", {}), dict):
            raise DataError(f"{folder / _FACTS} is no description of a sweep, expected named facts and settings")
        return cls(facts, **parts)


def shift_by_variant(sweep: Sweep) -> pd.DataFrame:
    """Return one row a variant: mean over the layers of what its routing shifts, and how far its predictions move.

    Returns
    -------
    pandas.DataFrame
        Columns ``method, center, keep, rerouted, gate_kl`` and :data:`PREDICTION_COLUMNS`.
    """
    keys = ["method", "center", "keep"]
    means = sweep.routing_shift.groupby(keys, sort=False)[["rerouted", "gate_kl"]].mean().reset_index()
    return sweep.predictions[[*keys, *PREDICTION_COLUMNS]].merge(means, on=keys, how="left")


def scores_with_shift(sweep: Sweep) -> pd.DataFrame:
    """Return the scores with ``rerouted`` and ``gate_kl`` of each variant beside them; None where not measured."""
    shift = shift_by_variant(sweep)[["method", "keep", "rerouted", "gate_kl"]]
    table = sweep.scores.merge(shift.astype({"keep": float}), on=["method", "keep"], how="left")
    columns = ["rerouted", "gate_kl"]
    table[columns] = table[columns].astype(object).where(table[columns].notna(), None)
    return table
