"""One layer of a run as a unit of work: it stands on the disk whole and described, or it does not count."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .._core.errors import OutputError, ResmoeError
from .._core.gaps import gap_facts
from .._core.machine import peak_memory
from .._core.parsing import read_json
from ..centers import Statistics
from ..checkpoint import Checkpoint, open_checkpoint
from ..checkpoint.reader import TORCH_DTYPES, read_file, read_stored
from ..checkpoint.writer import digest, write_json, write_tensors
from ..experts import ExpertStack, Family, LayerShape, family_of
from ..methods import CompressedLayer, storage_ledger
from ..runtime.packing import pack, packed_ledger, packed_prefix
from ..store.manifest import permutation_hash
from .compressed_tensors import Scheme, StoredExperts
from .config import CompressionConfig
from .gguf import GgufExperts

#: Takes an expert and its restored matrix, and returns what is read of it once it is stored.
Store = Callable[[int, torch.Tensor], torch.Tensor]

#: Figures of a layer that a run adds up, or takes the mean or the largest of.
_SIZES, _ERRORS = ("bytes", "paper_bytes", "original_bytes"), ("approximation_error", "relative_error")
_FIGURES = (*_SIZES, *_ERRORS, "seconds", "peak_rss_bytes")


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
    config
        Everything that decides the result.
    statistics
        What calibration text tells about the layer, for the methods and centers that use it.
    """

    source: str
    out: Path
    layer: int
    config: CompressionConfig
    statistics: Statistics | None = None

    @property
    def file(self) -> Path:
        """The experts as they are stored."""
        return self.out / f"{self.stem}layer-{self.layer:05d}.safetensors"

    @property
    def packed(self) -> bool:
        """Whether the compressed form is stored; else the restored experts are."""
        return self.config.export == "packed"

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
        settings = json.dumps([self.source, self.config.model_dump(mode="json")], sort_keys=True)
        return hashlib.blake2b(settings.encode(), digest_size=16).hexdigest()

    def names(self, checkpoint: Checkpoint) -> Iterable[str]:
        """Return the names of the tensors that the layer takes."""
        family = family_of(checkpoint)
        return family.expert_keys(self.layer, family.shape(checkpoint.config).num_experts)

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
            description = read_json(self.description)
            fingerprint, expected, row = description["fingerprint"], description["digest"], description["row"]
            if not all(isinstance(row[name], int | float) for name in _FIGURES):
                raise ValueError("a figure of it is no number")
            actual = digest(read_file(self.file))
        except (ValueError, KeyError, TypeError, OSError, ResmoeError) as error:
            raise OutputError(f"layer {self.layer} in {self.out} is damaged ({error}): {advice}") from error
        if actual != expected:
            raise OutputError(f"{self.file} is damaged (hash {actual}, expected {expected}): {advice}")
        if fingerprint != self.fingerprint:
            raise OutputError(f"layer {self.layer} in {self.out} was made with other settings: {advice}")
        return dict(row)


def compress_unit(unit: Unit, checkpoint: Checkpoint | None = None) -> None:
    """Compress one layer and write its experts, unless that has been done already.

    Parameters
    ----------
    unit
        The layer.
    checkpoint
        The unit's source, where it is open.
    """
    if unit.row() is not None:
        return
    begun = time.perf_counter()
    checkpoint = checkpoint or open_checkpoint(unit.source)
    with peak_memory() as peak:
        tensors, row = _compress(checkpoint, family_of(checkpoint), unit)
        write_tensors(unit.file, tensors)
    row |= {"seconds": time.perf_counter() - begun, "peak_rss_bytes": peak.nbytes}
    write_json(unit.description, {"fingerprint": unit.fingerprint, "digest": digest(tensors), "row": row})


def _compress(checkpoint: Checkpoint, family: Family, unit: Unit) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return a layer's experts as they are stored, and what was lost and gained."""
    config, stack = unit.config, family.load(checkpoint, unit.layer)
    method, center = config.make_method(), None
    scale = stack.mean_squared_norm()
    if method.uses_center:
        center = config.make_center().find(stack, statistics=unit.statistics)
    layer = method.compress(
        stack, config.keep_of(unit.layer), center, statistics=unit.statistics, storage=config.storage
    )
    keys = list(family.expert_keys(unit.layer, stack.num_experts))
    original = family.expert_bytes(checkpoint, unit.layer)
    ledger, tensors, layout = storage_ledger(layer), dict[str, torch.Tensor](), dict[str, Any]()
    ledger_bytes = None
    if unit.config.export == "gguf":
        shape = LayerShape.of(stack.num_experts, stack.weights.shape[1], stack.blocks)
        experts = GgufExperts(unit.layer, shape, stack.blocks, kind=config.gguf_type.upper())
        error = _error(stack, layer, store=experts.put)
        tensors = experts.tensors
        ledger_bytes = sum(tensor.numel() for tensor in tensors.values())
    elif config.export == "compressed-tensors":
        rounded = StoredExperts(family, unit.layer, Scheme.of(checkpoint, config.compressed_type))
        error = _error(stack, layer, store=rounded.put)
        tensors = rounded.tensors
        ledger_bytes = sum(tensor.nbytes for tensor in tensors.values())
    elif unit.packed:
        error = _error(stack, layer)
        del stack  # the largest thing in memory, and done with
        prefix = packed_prefix(family, unit.layer)
        # What is stored does not depend on the activation, which the model that is loaded brings along.
        module = pack(layer, activation=torch.relu)
        tensors = {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}
        ledger = packed_ledger(module.layout, original_bytes=original)
        layout = {"layout": module.layout.model_dump(mode="json")}
    else:
        dtype = TORCH_DTYPES[checkpoint.tensors[keys[0]].dtype]
        error = _error(stack, layer, store=lambda k, restored: restored.to(dtype).float(), replace=True)
        del layer  # what is stored below takes its place
        tensors = family.to_tensors(stack, dtype=dtype)
    certificate = center.certificate if center is not None else None
    return tensors, layout | {
        "approximation_error": error,
        "relative_error": error / scale if scale else 0.0,
        "bytes": ledger.true_bytes if ledger_bytes is None else ledger_bytes,
        "paper_bytes": ledger.paper_bytes,
        "original_bytes": original,
        "format": ledger.format,
        "permutation_hash": permutation_hash(center.permutations) if center is not None else None,
        **(gap_facts(certificate.gap, certificate.kind) if certificate is not None else gap_facts(None, None)),
        "source_hash": digest(read_stored(checkpoint, keys)),
    }


def _error(stack: ExpertStack, layer: CompressedLayer, *, store: Store | None = None, replace: bool = False) -> float:
    """Return the approximation error of what is stored, restoring one expert at a time.

    Parameters
    ----------
    store
        Stores a restored expert and returns what it is read as.
    replace
        Whether that takes the original's place: all of them beside the originals would be the largest thing in memory.
    """
    error = 0.0
    for k, original in enumerate(stack.weights):
        restored = layer.restore_expert(k)
        if store is not None:
            restored = store(k, restored)
        error += layer.expert_error(k, original, restored)
        if replace:
            original.copy_(restored)
    return error / stack.num_experts
