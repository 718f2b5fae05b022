"""One layer of a run as a unit of work: it stands on the disk whole and described, or it does not count."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .._core.errors import OutputError, ResmoeError
from .._core.machine import peak_memory
from ..centers import Statistics, find_center
from ..checkpoint import Checkpoint, open_checkpoint
from ..checkpoint.reader import TORCH_DTYPES, read_file, read_tensors
from ..checkpoint.writer import digest, write_json, write_tensors
from ..experts import Block, ExpertStack, Family, family_of
from ..methods import METHODS, CompressedLayer
from ..runtime.packing import pack, packed_prefix, spec_of, weigh_packed
from ..store import Ledger, weigh
from ..store.manifest import permutation_hash
from ..transport.cost import matched_distances


@dataclass(frozen=True)
class Unit:
    """What any process needs to know to compress one layer.

    Parameters
    ----------
    source
        The checkpoint: a folder that every worker sees, or a hub id.
    out
        The output folder, which every worker sees.
    layer
        The layer's number.
    settings
        Everything that decides the result.
    statistics
        What calibration text tells about the layer, for the methods and centers that use it.
    """

    source: str
    out: Path
    layer: int
    settings: dict[str, Any]
    statistics: Statistics | None = None

    @property
    def file(self) -> Path:
        """The experts as they are stored."""
        return self.out / f"{self.stem}layer-{self.layer:05d}.safetensors"

    @property
    def packed(self) -> bool:
        """Whether the compressed form is stored; else the restored experts are."""
        return bool(self.settings["export"] == "packed")

    @property
    def stem(self) -> str:
        """What the names of the run's tensor files begin with: packed ones are found by a registered loader only."""
        return "resmoe-" if self.packed else ""

    @property
    def description(self) -> Path:
        """What was measured; it is written last, so a layer counts from the moment this file is there."""
        return self.file.with_suffix(".json")

    @property
    def fingerprint(self) -> str:
        """Hash of the settings that the layer was made with."""
        return hashlib.blake2b(json.dumps(self.settings, sort_keys=True).encode(), digest_size=16).hexdigest()

    def row(self) -> dict[str, Any] | None:
        """The finished layer's lines of the manifest (None: it is not finished).

        Raises
        ------
        OutputError
            If the layer was finished and has been damaged since, or was made with other settings.
        """
        if not self.description.is_file():
            return None
        advice = f"remove {self.description}, and run again to make this layer anew"
        try:
            found = json.loads(self.description.read_text("utf-8"))
            fingerprint, expected, row = found["fingerprint"], found["digest"], found["row"]
            actual = digest(read_file(self.file))
        except (ValueError, KeyError, TypeError, OSError, ResmoeError) as error:
            raise OutputError(f"layer {self.layer} in {self.out} is damaged ({error}): {advice}") from error
        if actual != expected:
            raise OutputError(f"{self.file} is damaged (hash {actual}, expected {expected}): {advice}")
        if fingerprint != self.fingerprint:
            raise OutputError(f"layer {self.layer} in {self.out} was made with other settings: {advice}")
        return dict(row)


def compress_unit(unit: Unit) -> None:
    """Compress one layer and write its experts, unless that has been done already."""
    if unit.row() is not None:
        return
    begun = time.perf_counter()
    checkpoint = open_checkpoint(unit.source)
    with peak_memory() as peak:
        tensors, row = _compress(checkpoint, family_of(checkpoint), unit)
        write_tensors(unit.file, tensors)
    row |= {"seconds": time.perf_counter() - begun, "peak_rss_bytes": peak.nbytes}
    write_json(unit.description, {"fingerprint": unit.fingerprint, "digest": digest(tensors), "row": row})


def _compress(checkpoint: Checkpoint, family: Family, unit: Unit) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return a layer's experts as they are stored, and what was lost and gained."""
    how, stack = unit.settings, family.load(checkpoint, unit.layer)
    known: dict[str, Any] = {"statistics": unit.statistics}
    keep, method, center = how["keep"], METHODS[how["method"]](seed=how["seed"]), None
    scale = stack.mean_squared_norm()
    if method.uses_center:
        center = find_center(stack, center=how["center"], seed=how["seed"], **known, **how["options"])
    compressed = method.compress(stack, keep, center, **known)
    error = _restore(stack, compressed, keep_restored=not unit.packed)
    keys = list(family.expert_keys(unit.layer, stack.num_experts))
    if unit.packed:
        blocks = stack.blocks
        del stack  # the largest thing in memory, and done with
        tensors, ledger, stored = _pack(family, unit, compressed, blocks)
    else:
        ledger, stored = weigh(compressed), {}
        del compressed
        tensors = family.to_tensors(stack, dtype=TORCH_DTYPES[checkpoint.tensors[keys[0]].dtype])
    certificate = center.certificate if center is not None else None
    return tensors, stored | {
        "approximation_error": error,
        "relative_error": error / scale if scale else 0.0,
        "bytes": ledger.true_bytes,
        "paper_bytes": ledger.paper_bytes,
        "original_bytes": ledger.original_bytes,
        "format": ledger.format,
        "permutation_hash": permutation_hash(center.permutations) if center is not None else None,
        "certified_gap": certificate.gap if certificate is not None else None,
        "source_hash": digest(read_tensors(checkpoint, keys)),
    }


def _pack(
    family: Family, unit: Unit, compressed: CompressedLayer, blocks: Sequence[Block]
) -> tuple[dict[str, torch.Tensor], Ledger, dict[str, Any]]:
    """Return a layer's packed tensors, what they weigh, and the specification by which they are read."""
    values, form = unit.settings["values"], unit.settings["form"]
    # What is stored does not depend on the activation, which the model that is loaded brings along.
    module = pack(compressed, blocks, activation=torch.relu, values=values, form=form)
    spec = spec_of(module, values=values)
    original_bytes = weigh(compressed, value_bytes=spec.center_dtype.itemsize).original_bytes
    prefix = packed_prefix(family, unit.layer)
    tensors = {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}
    return tensors, weigh_packed(module, original_bytes=original_bytes), {"spec": spec.model_dump(mode="json")}


def _restore(stack: ExpertStack, compressed: CompressedLayer, *, keep_restored: bool) -> float:
    """Restore the experts one by one, and return the approximation error.

    All of them at once beside the originals would be the largest thing in memory: those that are wanted take the
    originals' places.
    """
    orders, error = compressed.orders, 0.0
    for k, group in enumerate(compressed.groups or range(len(compressed.pieces))):
        original, restored = stack.weights[k], compressed.pieces[group].restore()
        if compressed.center is not None:
            restored = restored + compressed.center.expert(k)
        order = torch.arange(len(original)) if orders is None else orders[k]
        error += float(matched_distances(restored, original, order).sum())
        if keep_restored:
            original.copy_(restored)
    return error / stack.num_experts
