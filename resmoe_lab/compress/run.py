"""The layer loop: each layer is written whole or not at all, and a run goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .._core.machine import machine, peak_rss_bytes, versions
from .._core.params import KEEP
from .._core.progress import Progress, silent, tracked
from ..centers import find_center
from ..checkpoint import Checkpoint
from ..checkpoint.index import read_header
from ..checkpoint.reader import read_tensors
from ..checkpoint.writer import copy_companions, write_index, write_json, write_tensors
from ..experts import ExpertStack, family_of
from ..methods import METHODS
from ..store import weigh
from ..store.manifest import MANIFEST_FILE, checkpoint_hash, open_output, permutation_hash

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}


def compress_checkpoint(
    checkpoint: Checkpoint,
    out: str | Path,
    *,
    layers: Sequence[int],
    method: str = "resmoe-up",
    keep: float = KEEP.default,
    center: str = "wasserstein",
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Compress layers of a checkpoint and write the restored experts as a checkpoint of the same layout.

    The output opens with plain ``from_pretrained`` and saves no memory; its manifest tells what the compressed
    form weighs.

    Parameters
    ----------
    checkpoint
        What to compress; one layer of it is in memory at a time.
    out
        A new or empty folder, or one that an unfinished run with the same settings left.
    layers
        Numbers of the layers.
    method, keep, center, seed
        How.
    progress
        Told after every layer; raising from it stops the run, and finished layers stay.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    OutputError
        If `out` holds something else or cannot be written.
    UsageError
        If an argument is not allowed; nothing has been written then.
    """
    KEEP.validate(keep)
    uses_center = METHODS[method].uses_center
    out = Path(out)
    settings: dict[str, Any] = {"checkpoint": checkpoint.name, "checkpoint_hash": checkpoint_hash(checkpoint)}
    settings |= {
        "method": method,
        "keep": keep,
        "center": center if uses_center else "none",
        "seed": seed,
        "layers": list(layers),
    }
    manifest = open_output(out, settings)
    if manifest["finished"]:
        return manifest
    manifest |= {"export": "dense (restored weights: no memory saved)", "versions": versions(), "machine": machine()}
    for layer in tracked(list(layers), f"compress with {method}", progress):
        if not _is_written(out, manifest, layer):
            manifest["layers"][str(layer)] = _compress_layer(checkpoint, out, layer, settings)
            write_json(out / MANIFEST_FILE, manifest)
    _write_rest(checkpoint, out, layers)
    copy_companions(checkpoint, out)
    return _finish(out, manifest)


def _unit(layer: int) -> str:
    return f"layer-{layer:05d}.safetensors"


def _is_written(out: Path, manifest: dict[str, Any], layer: int) -> bool:
    return str(layer) in manifest["layers"] and (out / _unit(layer)).is_file() and bool(read_header(out / _unit(layer)))


def _compress_layer(checkpoint: Checkpoint, out: Path, layer: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Compress one layer, write its restored experts, and return its lines of the manifest."""
    begun = time.perf_counter()
    family = family_of(checkpoint)
    stack = family.load(checkpoint, layer)
    method = METHODS[settings["method"]]()
    common = find_center(stack, center=settings["center"], seed=settings["seed"]) if method.uses_center else None
    compressed = method.compress(stack, settings["keep"], common)
    error = method.errors(stack, [settings["keep"]], common)[0]
    scale = stack.mean_squared_norm()
    ledger = weigh(compressed)
    key = next(family.expert_keys(layer, 1))
    restored: ExpertStack = stack.with_weights(compressed.restore())
    write_tensors(out / _unit(layer), family.split(restored, dtype=_DTYPES[checkpoint.tensors[key].dtype]))
    certificate = common.certificate if common is not None else None
    return {
        "approximation_error": error,
        "relative_error": error / scale if scale else 0.0,
        "bytes": ledger.true_bytes,
        "paper_bytes": ledger.paper_bytes,
        "original_bytes": ledger.original_bytes,
        "format": ledger.format,
        "permutation_hash": permutation_hash(common.permutations) if common is not None else None,
        "certified_gap": certificate.gap if certificate is not None else None,
        "seconds": time.perf_counter() - begun,
    }


def _write_rest(checkpoint: Checkpoint, out: Path, layers: Sequence[int]) -> None:
    """Copy every tensor that no compressed layer holds, file by file, and write the index over all of them."""
    units = {_unit(layer): read_header(out / _unit(layer)) for layer in layers}
    done = {name for unit in units.values() for name in unit}
    files: dict[str, dict[str, Any]] = {name: dict.fromkeys(unit) for name, unit in units.items()}
    for number, source in enumerate(sorted({info.file for info in checkpoint.tensors.values()})):
        names = [name for name, info in checkpoint.tensors.items() if info.file == source and name not in done]
        if names:
            file = f"rest-{number:05d}.safetensors"
            write_tensors(out / file, read_tensors(checkpoint, names))
            files[file] = dict.fromkeys(names)
    write_index(out, files, total_bytes=checkpoint.total_bytes)


def _finish(out: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Add up the layers and write the finished manifest."""
    rows = list(manifest["layers"].values())
    for name in ("bytes", "paper_bytes", "original_bytes", "seconds"):
        manifest[name] = sum(row[name] for row in rows)
    for name in ("approximation_error", "relative_error"):
        manifest[name] = sum(row[name] for row in rows) / len(rows)
    manifest |= {"peak_rss_bytes": peak_rss_bytes(), "finished": True}
    write_json(out / MANIFEST_FILE, manifest)
    return manifest
