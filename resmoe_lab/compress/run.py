"""The run: layers are units that are whole or not there, so that it goes on wherever and however it was stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from .._core.deprecation import warn_renamed
from .._core.errors import OutputError
from .._core.files import folder_lock, remove_partial_files
from .._core.machine import machine, versions
from .._core.progress import Progress, Tick, silent
from ..centers import Statistics
from ..checkpoint import Checkpoint
from ..checkpoint.companions import copy_companion_files, left_out
from ..checkpoint.reader import read_file
from ..checkpoint.tensors import read_header
from ..checkpoint.weight_files import INDEX_FILE, PACKED_INDEX_FILE
from ..checkpoint.writer import digest, write_index, write_json
from ..experts import family_of
from ..runtime.rest import describe_rest, rounded_modules
from ..store.manifest import MANIFEST_FILE, checkpoint_hash, found_manifest, open_output
from .card import write_card
from .carried import Portion, portions
from .compressed_tensors import Scheme, ignored_modules
from .config import Calibration, CompressionConfig
from .forecast import forecast_run
from .gguf import write_gguf_file
from .plan import checked_config
from .schedule import run_all
from .stream import SHARDS_FOLDER, check_discard, in_order_of_shards, most_shard_bytes, remove_shards, streamed
from .unit import Unit, compress_unit

#: What the manifest says of each.
_EXPORTS = {
    "packed": "packed (small on disk and in memory)",
    "dense": "dense (restored weights: no memory saved)",
    "gguf": "gguf (restored weights, for llama.cpp)",
    "compressed-tensors": "compressed-tensors (restored weights, rounded)",
}


def compress_checkpoint(
    checkpoint: Checkpoint,
    out: str | Path,
    config: CompressionConfig | None = None,
    *,
    statistics: Mapping[int, Statistics] | None = None,
    scheduler: str | None = None,
    discard: bool = False,
    progress: Progress = silent,
    **settings: Any,
) -> dict[str, Any]:
    """Compress layers of a checkpoint and write them as a checkpoint that ``from_pretrained`` opens.

    Packed, it is small on disk and in memory, and needs ``import resmoe_lab`` before it is opened. Dense, it holds the
    restored experts in the layout of the original, for any program, and saves no memory; its manifest tells what
    the compressed form takes. Either way the errors in the manifest are those of what the folder restores to.

    Parameters
    ----------
    checkpoint
        What to compress; one layer of it is in memory at a time.
    out
        A new or empty folder, or one that an unfinished run with the same settings left.
    config
        Which layers, how, and how they are stored.
    statistics
        What calibration text tells about each layer, for the methods and centers that use it.
    scheduler
        Where the work runs, see :func:`~resmoe_lab.compress.schedule.run_all`; the result is the same.
    discard
        Of a checkpoint of the hub: whether its shards are fetched into `out` and deleted when no further layer takes
        them, instead of staying in the hub's cache. The result is the same.
    progress
        Called after every layer; raising from it stops the run, and finished layers stay.
    settings
        Deprecated: the fields of a :class:`CompressionConfig` one by one.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    OutputError
        If `out` holds something else, is being written by another run, is damaged, or cannot be written.
    UsageError
        If a setting is not allowed; nothing has been written then.
    ResourceError
        If this machine has too little memory or disk; nothing has been written then.

    Examples
    --------
    >>> import tempfile
    >>> import resmoe_lab as rl
    >>> checkpoint = rl.open_checkpoint("mixtral-tiny")
    >>> config = rl.CompressionConfig(method="up", keep=0.25, layers="0")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     manifest = rl.compress_checkpoint(checkpoint, folder, config)
    >>> manifest["bytes"] < manifest["original_bytes"]
    True
    """
    config = _merged(config, settings)
    config = checked_config(checkpoint, config, scheduler=scheduler)
    if discard:
        check_discard(checkpoint, config, scheduler=scheduler)
        checkpoint = replace(checkpoint, shards=Path(out).absolute() / SHARDS_FOLDER)
    first = next(iter(statistics.values()), None) if statistics else None
    config.check_calibrated(first is not None, only_usage=first is not None and first.inputs is None)
    statistics, out = statistics or {}, Path(out)
    if first is not None and config.calibration is None and config.usage is None:
        calibration = Calibration(source=first.source, tokens=max(1, first.tokens))
        config = config.model_copy(update={"calibration": calibration})
    described = described_settings(checkpoint, config)
    folder, layers = out.absolute(), config.layer_numbers
    units = [Unit(checkpoint.source, folder, layer, config, statistics.get(layer)) for layer in layers]
    if (manifest := found_manifest(out, described))["finished"]:
        # A run that was killed at its very end leaves its lock behind; where nothing can be written, it stays.
        with suppress(OutputError), folder_lock(out):
            _tidy(out, [*units, *_carried(checkpoint, units, {})])
        return manifest
    expected = forecast_run(checkpoint, out, config, scheduler=scheduler, calibrated=bool(statistics))
    if discard:
        steps = list[Unit | Portion]([*units, *_carried(checkpoint, units, {})])
        expected = replace(expected, shard_bytes=most_shard_bytes(checkpoint, steps))
    expected.check(out)
    open_output(out, described)
    with folder_lock(out):
        manifest = found_manifest(out, described)  # as the last holder left it
        if not manifest["finished"]:
            manifest |= {"export": _EXPORTS[config.export], "source_encodings": checkpoint.encodings}
            manifest |= {"forecast": expected.facts(), "versions": versions(), "machine": machine()}
            manifest = _write(checkpoint, out, units, manifest=manifest, scheduler=scheduler, progress=progress)
    return manifest


def described_settings(checkpoint: Checkpoint, config: CompressionConfig) -> dict[str, Any]:
    """Return what decides the result of a run, as its manifest has it."""
    described = {"checkpoint": checkpoint.name, "checkpoint_hash": checkpoint_hash(checkpoint)}
    return described | config.model_dump(mode="json")


def _merged(config: CompressionConfig | None, settings: dict[str, Any]) -> CompressionConfig:
    """The settings as one object; single ones, as version 0.1 took them, are still understood."""
    if not settings or config is not None:
        return CompressionConfig.of(config, settings)
    warn_renamed("compress_checkpoint(..., method=..., keep=...)", "a CompressionConfig", stacklevel=4)
    if "options" in settings:
        settings["center_options"] = dict(settings.pop("options") or {})
    storage = {new: settings.pop(old) for old, new in (("values", "encoding"), ("form", "format")) if old in settings}
    if storage:
        settings["storage"] = storage
    return CompressionConfig(**settings)


def _write(
    checkpoint: Checkpoint,
    out: Path,
    units: Sequence[Unit],
    *,
    manifest: dict[str, Any],
    scheduler: str | None,
    progress: Progress,
) -> dict[str, Any]:
    """Write whatever is not there yet, the manifest first and, with what was measured, last."""
    remove_partial_files(out)
    remove_shards(out, parts_only=True)
    write_json(out / MANIFEST_FILE, manifest)
    modules = rounded_modules(checkpoint, units[0].config.rest)
    carried = _carried(checkpoint, units, modules)
    _work(checkpoint, units, carried, scheduler=scheduler, progress=progress)
    begun = time.perf_counter()
    if units[0].config.export == "gguf":
        files = {unit.layer: unit.file for unit in units}
        path = write_gguf_file(checkpoint, out, files, kind=units[0].config.gguf_type.upper())
        manifest["files"] = {path.name: digest(read_file(path))}
    else:
        manifest["files"] = _write_index(out, units, carried)
    copy_companion_files(checkpoint, out)
    said = checkpoint.config_file
    if said is None or checkpoint.config != json.loads(said.read_text("utf-8")):
        write_json(out / "config.json", dict(checkpoint.config))
    manifest["left_out"] = left_out(checkpoint)
    if units[0].config.export == "compressed-tensors":
        _describe_rounded(checkpoint, out, units[0].config)
    if units[0].packed:
        _describe_packed(checkpoint, out, units, modules)
    copying = time.perf_counter() - begun + sum(_description(portion)["seconds"] for portion in carried)
    return _finish(checkpoint, out, manifest, [*units, *carried], copying=copying)


def _work(
    checkpoint: Checkpoint,
    units: Sequence[Unit],
    carried: Sequence[Portion],
    *,
    scheduler: str | None,
    progress: Progress,
) -> None:
    """Do what is not there yet; the layers that are, are checked byte by byte first."""
    task = f"compress with {units[0].config.method}"
    waiting = [unit for unit in units if unit.row() is None]
    done = len(units) - len(waiting)
    progress(Tick(task, done, len(units)))
    copies = [portion for portion in carried if portion.row() is None]
    if scheduler is not None:
        with closing(run_all(compress_unit, waiting, scheduler=scheduler)) as finished:
            for unit in finished:
                done += 1
                progress(Tick(task, done, len(units), {"layer": unit.layer}))
        waiting = []
    ordered = in_order_of_shards(checkpoint, list[Unit | Portion]([*waiting, *copies]))
    with closing(streamed(checkpoint, ordered)) as steps:
        for step in steps:
            if isinstance(step, Portion):
                step.write(checkpoint)
                continue
            compress_unit(step, checkpoint)
            done += 1
            progress(Tick(task, done, len(units), {"layer": step.layer}))


def _carried(checkpoint: Checkpoint, units: Sequence[Unit], modules: Mapping[str, tuple[int, int]]) -> list[Portion]:
    """The tensors that no compressed layer replaces; a GGUF file takes them from the original."""
    config, stem = units[0].config, units[0].stem
    if config.export == "gguf":
        return []
    replaced = {key for unit in units for key in unit.names(checkpoint)}
    place = units[0].out / f"{stem}rest-"
    return list(portions(checkpoint, place, replaced=replaced, rounded=modules, rest=config.rest))


def _write_index(out: Path, units: Sequence[Unit], carried: Sequence[Portion]) -> dict[str, str]:
    """Write the index over all files; return their hashes."""
    digests = {unit.file.name: _description(unit)["digest"] for unit in units}
    digests |= {portion.file.name: _description(portion)["digest"] for portion in carried}
    headers = {file: read_header(out / file) for file in digests}
    total = sum(info.nbytes for header in headers.values() for info in header.values())
    write_index(out, headers, total_bytes=total, name=PACKED_INDEX_FILE if units[0].packed else INDEX_FILE)
    return digests


def _describe_rounded(checkpoint: Checkpoint, out: Path, config: CompressionConfig) -> None:
    """Describe the rounded experts in the config, as compressed-tensors has it."""
    ignored = ignored_modules(checkpoint, config.layer_numbers)
    said = Scheme.of(checkpoint, config.compressed_type).described(ignored)
    write_json(out / "config.json", {**checkpoint.config, "quantization_config": said})


def _describe_packed(
    checkpoint: Checkpoint, out: Path, units: Sequence[Unit], modules: Mapping[str, tuple[int, int]]
) -> None:
    """Describe the packed layers in the config."""
    from ..runtime.quantizer import ResMoEConfig

    family = family_of(checkpoint)
    layers = {f"{family.module_name(unit.layer)}.experts": _description(unit)["row"]["layout"] for unit in units}
    packed = ResMoEConfig(layers, rest=describe_rest(modules, units[0].config.rest)).to_dict()
    write_json(out / "config.json", {**checkpoint.config, "quantization_config": packed})


def _finish(
    checkpoint: Checkpoint, out: Path, manifest: dict[str, Any], steps: Sequence[Unit | Portion], *, copying: float
) -> dict[str, Any]:
    """Add up the layers, and write the card and the finished manifest."""
    rows = {str(unit.layer): _description(unit)["row"] for unit in steps if isinstance(unit, Unit)}
    for name in ("bytes", "paper_bytes", "original_bytes", "seconds"):
        manifest[name] = sum(row[name] for row in rows.values())
    manifest["seconds"] += copying
    for name in ("approximation_error", "relative_error"):
        manifest[name] = sum(row[name] for row in rows.values()) / len(rows)
    manifest["peak_rss_bytes"] = max(row["peak_rss_bytes"] for row in rows.values())
    manifest |= {"layers": rows, "finished": True}
    write_card(checkpoint, out, manifest)
    write_json(out / MANIFEST_FILE, manifest)
    _tidy(out, steps)
    return manifest


def _tidy(out: Path, steps: Sequence[Unit | Portion]) -> None:
    """Remove fetched shards, the descriptions of what the manifest holds, and files that the GGUF file holds."""
    remove_shards(out)
    for step in steps:
        step.description.unlink(missing_ok=True)
        if isinstance(step, Unit) and step.config.export == "gguf":
            step.file.unlink(missing_ok=True)


def _description(step: Unit | Portion) -> dict[str, Any]:
    description: dict[str, Any] = json.loads(step.description.read_text("utf-8"))
    return description
