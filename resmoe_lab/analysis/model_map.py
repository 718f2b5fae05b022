"""The map of a checkpoint: what lies where, in how many bytes, from the headers of its files alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ..checkpoint import Checkpoint
from ..checkpoint.tensors import TensorInfo
from ..experts import Family, family_of
from ..methods import METHODS, forecast_ledger
from ..store.layout import DEFAULT_STORAGE, Storage

#: Parts of a model, in the order in which they stand beside each other in a layer's row.
PARTS = ("embeddings", "attention", "router", "center", "experts", "shared expert", "feed-forward", "norms", "head")
_LAYER = re.compile(r"(.*?)\.(\d+)\.(.+)")
#: Words of tensor names -> the part; the first that is found counts.
_WORDS = {
    "norms": r"norm|layernorm|\bln_",
    "embeddings": r"embed|\bwte\b|\bwpe\b|^shared\.weight",
    "head": r"lm_head|embed_out|^output\.weight",
    "attention": r"att|mixer|mamba|linear_attn|conv|ssm|rotary|retention|relative_bias",
}
_COLUMNS = ["row", "layer", "part", "expert", "tensors", "shape", "stored", "weights", "bytes"]


@dataclass
class _Cell:
    """Tensors of one part of one row, or of one expert."""

    weights: int = 0
    nbytes: int = 0
    tensors: int = 0
    shape: tuple[int, ...] = ()
    stored: set[str] = field(default_factory=set)

    def add(self, info: TensorInfo, *, share: int = 1) -> None:
        """Add a tensor, or one of so many equal shares of it."""
        self.weights += math.prod(info.shape) // share
        self.nbytes += info.nbytes // share
        self.tensors += 1
        self.shape = self.shape or info.shape[1 if share > 1 else 0 :]
        self.stored.add(info.encoded.codec if info.encoded is not None else info.dtype.lower())


def model_map(checkpoint: Checkpoint) -> pd.DataFrame:
    """Tabulate the parts of a checkpoint, row by row: its layers, and what stands before and after them.

    Parameters
    ----------
    checkpoint
        Any checkpoint of a known family, packed ones too.

    Returns
    -------
    pandas.DataFrame
        One line an expert, and one each other part of a layer: ``row`` (``"embeddings"``, ``"0"``, ``"encoder 0"``,
        ...), ``layer`` (the number of its layer with experts, NA elsewhere), ``part`` (one of :data:`PARTS`),
        ``expert`` (-1 for other parts), ``tensors`` (how many), ``shape`` (of the first), ``stored`` (types or
        encodings), ``weights``, ``bytes`` as stored.

    Raises
    ------
    CheckpointError
        If the family is unknown.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> from resmoe_lab.analysis.model_map import model_map
    >>> table = model_map(rl.open_checkpoint("mixtral-tiny"))
    >>> table["row"].unique().tolist()
    ['embeddings', '0', '1', '2', '3', 'head']
    >>> bool(table["bytes"].sum() == rl.open_checkpoint("mixtral-tiny").total_bytes)
    True
    """
    family = family_of(checkpoint)
    count = family.shape(checkpoint.config).num_experts
    place = _Placing(family, checkpoint)
    cells: dict[tuple[str, int | None, str, int], _Cell] = {}
    for name, info in checkpoint.tensors.items():
        row, layer, part, expert = place(name)
        # One tensor of all experts is as many cells.
        split = part == "experts" and expert < 0 and info.shape[:1] == (count,)
        for k in range(count) if split else (expert,):
            cells.setdefault((row, layer, part, k), _Cell()).add(info, share=count if split else 1)
    rank = {name: number for number, name in enumerate(PARTS)}
    order = sorted(cells, key=lambda key: (place.row_rank(key[0]), rank[key[2]], key[3]))
    lines = [
        (*key, cell.tensors, "x".join(map(str, cell.shape)), ", ".join(sorted(cell.stored)), cell.weights, cell.nbytes)
        for key in order
        for cell in (cells[key],)
    ]
    table = pd.DataFrame(lines, columns=_COLUMNS)
    return table.astype({"layer": "Int64"})


class _Placing:
    """Finds the place of a tensor by its name."""

    def __init__(self, family: Family, checkpoint: Checkpoint) -> None:
        self._family, tensors = family, checkpoint.tensors
        expert = "|".join(re.escape(part.key).replace(r"\{k\}", r"(\d+)") for part in family.parts)
        self._expert = re.compile(expert)
        stems = {match[1] for match in map(_LAYER.fullmatch, tensors) if match}
        names = {stem: next((word for word in ("encoder", "decoder") if word in stem), "") for stem in stems}
        packed = family.routed_layers(tensors) if checkpoint.packed else []
        self._packed = {f"{family.module_name(layer)}.experts.": layer for layer in packed}
        #: What rows are called: of several stacks of layers, by the stack.
        self._stacks = {
            stem: f"{name} " if name and len(set(names.values())) > 1 else "" for stem, name in names.items()
        }

    def _is_expert(self, name: str) -> bool:
        located = self._family.locate(name)
        return located is not None and self._expert.fullmatch(located[1]) is not None

    def __call__(self, name: str) -> tuple[str, int | None, str, int]:
        """Return row, layer with experts, part and expert of a tensor."""
        match, located = _LAYER.fullmatch(name), self._family.locate(name)
        if match is None:
            part = self._part(name)
            return (
                ("head" if part in ("head", "norms") else "embeddings" if part == "embeddings" else "head"),
                None,
                part,
                -1,
            )
        row = f"{self._stacks.get(match[1], '')}{match[2]}"
        for prefix, layer in self._packed.items():
            if name.startswith(prefix) and not self._is_expert(name):
                return row, layer, "center" if "center" in name.removeprefix(prefix).split(".") else "experts", -1
        if located is None:
            return row, None, self._part(match[3]), -1
        layer, rest = located
        return (row, *self._in_block(layer, rest))

    def _in_block(self, layer: int, rest: str) -> tuple[int | None, str, int]:
        """Layer, part and expert of a tensor in the place of an MoE block."""
        if match := self._expert.fullmatch(rest):
            return layer, "experts", int(match[match.lastindex]) if match.lastindex else -1
        if rest == self._family.router:
            return layer, "router", -1
        if re.fullmatch(self._family.dense_tensors, rest):
            return None, "feed-forward", -1
        return layer, "router" if "bias" in rest or "gate." in rest else "shared expert", -1

    @staticmethod
    def _part(name: str) -> str:
        return next((part for part, pattern in _WORDS.items() if re.search(pattern, name.lower())), "feed-forward")

    @staticmethod
    def row_rank(row: str) -> tuple[int, str, int]:
        """Embeddings before all layers, an encoder's before a decoder's, the head after them."""
        stack, _, number = row.rpartition(" ")
        if not number.isdigit():
            return (0 if row == "embeddings" else 3), "", 0
        return (2 if stack == "decoder" else 1), stack, int(number)


def compressed_map(
    table: pd.DataFrame,
    checkpoint: Checkpoint,
    *,
    method: str,
    keep: float,
    center: bool = True,
    storage: Storage = DEFAULT_STORAGE,
    layers: list[int] | None = None,
) -> pd.DataFrame:
    """Return a map with the experts of some layers as a method would store them, forecast from their sizes.

    Parameters
    ----------
    table, checkpoint
        The map of the checkpoint.
    method, keep, center, storage
        How the experts are compressed; `center`, whether one is stored where the method uses one.
    layers
        Which layers; all with experts if not given.

    Returns
    -------
    pandas.DataFrame
        The same columns. A center is a part of its own; the bytes of the experts are shared out equally.
    """
    instance, family = METHODS[method](), family_of(checkpoint)
    shape = family.layer_shape()
    ledger = forecast_ledger(instance, shape, keep=keep, center=center and instance.uses_center, storage=storage)
    center_bytes = sum(entry.nbytes for entry in ledger.entries if entry.item == "center")
    chosen = family.layers(checkpoint) if layers is None else layers
    is_expert = (table["part"] == "experts") & table["layer"].isin(chosen)
    result = table.copy()
    result.loc[is_expert, "bytes"] = (ledger.true_bytes - center_bytes) // shape.num_experts
    result.loc[is_expert, "stored"] = ledger.format
    if center_bytes:
        first = result[is_expert].drop_duplicates("layer").copy()
        first = first.assign(
            part="center", expert=-1, tensors=1, weights=shape.intermediate_size * shape.width, bytes=center_bytes
        )
        first["stored"] = storage.center_encoding.name
        # Before the experts of its row.
        first.index = first.index - 0.5
        result = pd.concat([result, first]).sort_index().reset_index(drop=True)
    return result


def map_picture(name: str, forms: Mapping[str, pd.DataFrame], errors: Mapping[int, float]) -> dict[str, Any]:
    """Return what the picture of a map in a browser is drawn from (``modelmap.js``), as JSON knows it.

    Parameters
    ----------
    name
        What the checkpoint is called.
    forms
        Name of a form -> its map; the checkpoint as stored first.
    errors
        Layer -> relative error of the last form; empty if not measured.
    """
    return {
        "name": name,
        "forms": [
            {"name": form, "bytes": int(table["bytes"].sum()), "rows": _rows(table)} for form, table in forms.items()
        ],
        "errors": {str(layer): error for layer, error in errors.items()},
    }


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The cells of a map by rows."""
    rows: dict[str, dict[str, Any]] = {}
    cells = ["part", "expert", "shape", "stored", "weights", "bytes"]
    for line in table.astype({"layer": object}).to_dict("records"):
        row = rows.setdefault(line["row"], {"name": line["row"], "layer": None, "bytes": 0, "cells": []})
        if row["layer"] is None and pd.notna(line["layer"]):
            row["layer"] = int(line["layer"])
        row["bytes"] += line["bytes"]
        row["cells"].append({name: line[name] for name in cells})
    return list(rows.values())


def merge_experts(table: pd.DataFrame) -> pd.DataFrame:
    """Return a map in which the experts of a layer are one part, for pictures of very many."""
    is_expert = table["part"] == "experts"
    sums = table[is_expert].groupby("row")[["tensors", "weights", "bytes"]].transform("sum")
    merged = table.copy()
    merged.loc[is_expert, list(sums)] = sums
    merged.loc[is_expert, "expert"] = -1
    return merged[~(is_expert & merged.duplicated(["row", "part"]))].reset_index(drop=True)
