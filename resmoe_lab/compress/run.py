"""The run: layers are units that are whole or not there, so that it goes on wherever and however it was stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from .._core.files import held, remove_parts
from .._core.machine import machine, versions
from .._core.params import KEEP
from .._core.progress import Progress, Tick, silent
from ..centers import Statistics, needed
from ..checkpoint import Checkpoint
from ..checkpoint.index import read_header
from ..checkpoint.reader import read_tensors
from ..checkpoint.writer import copy_companions, write_index, write_json, write_tensors
from ..experts import family_of
from ..methods import METHODS
from ..store.manifest import MANIFEST_FILE, checkpoint_hash, found_manifest, open_output
from .forecast import forecast_run
from .schedule import run_all, worker_count
from .unit import Unit, compress_unit


def compress_checkpoint(
    checkpoint: Checkpoint,
    out: str | Path,
    *,
    layers: Sequence[int],
    method: str = "resmoe-up",
    keep: float = KEEP.default,
    center: str = "wasserstein",
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    statistics: Mapping[int, Statistics] | None = None,
    scheduler: str | None = None,
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
    options
        Options of the center, such as ``{"solver": "alternating"}``.
    statistics
        What calibration text tells about each layer, for the methods and centers that use it.
    scheduler
        Who does it, see :func:`~resmoe_lab.compress.schedule.run_all`; the result is the same.
    progress
        Told after every layer; raising from it stops the run, and finished layers stay.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    OutputError
        If `out` holds something else, is being written by another run, is damaged, or cannot be written.
    UsageError
        If an argument is not allowed; nothing has been written then.
    ResourceError
        If this machine has too little memory or disk; nothing has been written then.
    """
    KEEP.validate(keep)
    worker_count(scheduler)
    family_of(checkpoint).check_layers(checkpoint, layers)
    how: dict[str, Any] = {
        "method": method,
        "keep": keep,
        "center": center,
        "options": dict(options or {}),
        "seed": seed,
    }
    if not METHODS[method].uses_center:
        how |= {"center": "none", "options": {}}
    settings: dict[str, Any] = {
        "checkpoint": checkpoint.name,
        "checkpoint_hash": checkpoint_hash(checkpoint),
        "layers": list(layers),
        **how,
    }
    known = statistics or {}
    if METHODS[method].needs_statistics:
        needed(known.get(layers[0]), f"method {method!r}")
    if known:
        first = next(iter(known.values()))
        settings["calibration"] = {"source": first.source, "tokens": first.tokens}
    out = Path(out)
    units = [Unit(checkpoint.source, out.absolute(), layer, settings, known.get(layer)) for layer in layers]
    if (manifest := found_manifest(out, settings))["finished"]:
        _tidy(units)
        return manifest
    expected = forecast_run(checkpoint, out, layers=layers, scheduler=scheduler, **how)
    expected.check(out)
    open_output(out, settings)
    with held(out):
        manifest = found_manifest(out, settings)  # as the last holder left it
        if not manifest["finished"]:
            remove_parts(out)
            manifest |= {"export": "dense (restored weights: no memory saved)"}
            manifest |= {"forecast": expected.facts(), "versions": versions(), "machine": machine()}
            write_json(out / MANIFEST_FILE, manifest)
            _compress_all(units, scheduler, progress)
            begun = time.perf_counter()
            _write_rest(checkpoint, out, units)
            copy_companions(checkpoint, out)
            manifest = _finish(out, manifest, units, copying=time.perf_counter() - begun)
    return manifest


def _compress_all(units: Sequence[Unit], scheduler: str | None, progress: Progress) -> None:
    """Do the layers that are not there yet; those that are, are checked byte by byte first."""
    task = f"compress with {units[0].settings['method']}"
    waiting = [unit for unit in units if unit.row() is None]
    done = len(units) - len(waiting)
    progress(Tick(task, done, len(units)))
    with closing(run_all(compress_unit, waiting, scheduler=scheduler)) as finished:
        for unit in finished:
            done += 1
            progress(Tick(task, done, len(units), {"layer": unit.layer}))


def _write_rest(checkpoint: Checkpoint, out: Path, units: Sequence[Unit]) -> None:
    """Copy every tensor that no compressed layer holds, file by file, and write the index over all of them."""
    files = {unit.file.name: list(read_header(unit.file)) for unit in units}
    done = {name for names in files.values() for name in names}
    for number, source in enumerate(sorted({info.file for info in checkpoint.tensors.values()})):
        names = [name for name, info in checkpoint.tensors.items() if info.file == source and name not in done]
        if names:
            file = f"rest-{number:05d}.safetensors"
            write_tensors(out / file, read_tensors(checkpoint, names))
            files[file] = names
    write_index(out, files, total_bytes=checkpoint.total_bytes)


def _finish(out: Path, manifest: dict[str, Any], units: Sequence[Unit], *, copying: float) -> dict[str, Any]:
    """Add up the layers and write the finished manifest."""
    rows = {str(unit.layer): _described(unit) for unit in units}
    for name in ("bytes", "paper_bytes", "original_bytes", "seconds"):
        manifest[name] = sum(row[name] for row in rows.values())
    manifest["seconds"] += copying
    for name in ("approximation_error", "relative_error"):
        manifest[name] = sum(row[name] for row in rows.values()) / len(rows)
    manifest["peak_rss_bytes"] = max(row["peak_rss_bytes"] for row in rows.values())
    manifest |= {"layers": rows, "finished": True}
    write_json(out / MANIFEST_FILE, manifest)
    _tidy(units)
    return manifest


def _tidy(units: Sequence[Unit]) -> None:
    """Remove the descriptions of units: the finished manifest holds them all."""
    for unit in units:
        unit.description.unlink(missing_ok=True)


def _described(unit: Unit) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(unit.description.read_text("utf-8"))["row"]
    return row
