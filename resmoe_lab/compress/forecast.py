"""Forecast of a run: time, memory and room on the disk."""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .._core.errors import ResmoeWarning, ResourceError
from .._core.files import check_place
from .._core.machine import anonymous_bytes, available_bytes
from ..centers import CenterMethod
from ..checkpoint import Checkpoint
from ..experts import Family, LayerShape, family_of
from ..runtime.packable import forecast_packed
from ..runtime.rest import saved_bytes
from ..transport import SearchConfig
from ..transport.problem import Problem
from ..transport.search_config import are_near_duplicates, scratch_folder
from .compressed_tensors import compressed_tensors_bytes
from .config import CompressionConfig
from .gguf import gguf_bytes
from .plan import checked_config
from .schedule import worker_count
from .speed import existing, measured_speed, stored_bytes


@dataclass(frozen=True)
class LayerForecast:
    """What one layer will take.

    Parameters
    ----------
    layer
        Its number.
    seconds
        Time on this machine with nothing else to do.
    peak_rss_bytes
        Most anonymous memory of the process that compresses it.
    scratch_bytes
        Room for temporary files.
    output_bytes
        Room that its experts take as they are stored.
    """

    layer: int
    seconds: float
    peak_rss_bytes: int
    scratch_bytes: int
    output_bytes: int


@dataclass(frozen=True)
class Forecast:
    """What a run will take.

    Parameters
    ----------
    layers
        One by one.
    seconds
        All of it on this machine, however many processes share it.
    peak_rss_bytes
        Most anonymous memory on this machine at once.
    disk_bytes
        Room for temporary files and for the result.
    output_bytes
        Room for the result alone.
    workers
        Processes that this machine is shared by (0: the work is done elsewhere).
    alternatives
        What would take less memory, in words, and how much it would take.
    source_bits, output_bits
        Stored bits a weight of the compressed layers' experts, in the source and in the result.
    shard_bytes
        Room beside the result for shards of the hub that are deleted after their use.
    """

    layers: tuple[LayerForecast, ...]
    seconds: float
    peak_rss_bytes: int
    disk_bytes: int
    output_bytes: int
    workers: int
    alternatives: tuple[tuple[str, int], ...]
    source_bits: float = 16.0
    output_bits: float = 16.0
    shard_bytes: int = 0

    def facts(self) -> dict[str, Any]:
        """The forecast as JSON's own types."""
        facts = asdict(self) | {"layers": [asdict(layer) for layer in self.layers]}
        del facts["alternatives"]
        return facts

    def check(self, out: str | Path) -> None:
        """Refuse what this machine has no room for, and say what would fit.

        Raises
        ------
        ResourceError
            If memory or a disk is too small.
        """
        free = available_bytes() + anonymous_bytes()
        if self.workers and self.peak_rss_bytes > free:
            fitting = [f"{text} ({_size(need)})" for text, need in self.alternatives if need <= free]
            advice = f"would fit: {'; '.join(fitting)}" if fitting else "it needs a larger machine"
            raise ResourceError(f"this takes {_size(self.peak_rss_bytes)} of memory, found {_size(free)}: {advice}")
        done = sum(path.stat().st_size for path in Path(out).glob("*layer-*.safetensors"))
        scratch = self.disk_bytes - self.output_bytes
        needs: dict[int, tuple[Path, int]] = {}
        for folder, need in (
            (existing(Path(out)), self.output_bytes + self.shard_bytes - done),
            (scratch_folder(), scratch),
        ):
            device = folder.stat().st_dev
            first, before = needs.get(device, (folder, 0))
            needs[device] = first, before + need
        for folder, need in needs.values():
            room = shutil.disk_usage(folder).free
            if need > room:
                raise ResourceError(
                    f"this takes {_size(need)} on the disk of {folder}, found {_size(room)}: "
                    "make room, or name another place"
                )


def forecast_run(
    checkpoint: Checkpoint,
    out: str | Path,
    config: CompressionConfig,
    *,
    scheduler: str | None = None,
    calibrated: bool = False,
) -> Forecast:
    """Tell what compressing some layers will cost, from their shapes, a look at two experts, and this machine's speed.

    Parameters
    ----------
    checkpoint, out, config, scheduler
        As for :func:`~resmoe_lab.compress.compress_checkpoint`; nothing stays in `out`.
    calibrated
        Whether statistics of calibration text are in memory already. If not, and the settings need them, the model has
        to run for them, in float32 and as a whole.

    Raises
    ------
    UsageError
        If a setting is not allowed.
    OutputError
        If nothing can be written at `out`.
    """
    config = checked_config(checkpoint, config, scheduler=scheduler)
    check_place(Path(out))
    family = family_of(checkpoint)
    shape, out, workers = family.layer_shape(), Path(out), worker_count(scheduler)
    near_duplicates = _near_duplicates(checkpoint, family, config.layer_numbers[0])
    stored = family.expert_bytes(checkpoint, config.layer_numbers[0])
    running = 0
    if not calibrated and config.usage is None and (config.needs_statistics or config.calibration is not None):
        running = 4 * sum(math.prod(info.shape) for info in checkpoint.tensors.values())
    experts, others = _written(checkpoint, family, config)
    needs = _Needs(config, config.make_center(), shape, near_duplicates, experts, running)
    speed = measured_speed(shape, config, near_duplicates=near_duplicates, folder=out)
    peak, search, processes = needs.memory(speed.working), needs.search(), max(1, workers)
    scratch = search.scratch_bytes if search else 0
    seconds = speed.center.whole() + speed.method.whole() + speed.moving * stored
    outputs = dict.fromkeys(config.layer_numbers, experts)
    if config.export == "packed":
        options: dict[str, Any] = {"center": config.center, "storage": config.storage}
        for layer in outputs:
            outputs[layer] = forecast_packed(checkpoint, config.make_method(), keep=config.keep_of(layer), **options)
    rows = [LayerForecast(layer, seconds, peak, scratch, output) for layer, output in outputs.items()]
    weights = math.prod(shape.sizes)
    source_bits, output_bits = 8 * stored / weights, 8 * sum(outputs.values()) / (weights * len(rows))
    if checkpoint.encodings:
        _warn_of_quantized(checkpoint, source_bits, output_bits)
    rest = others - saved_bytes(checkpoint, config.rest)
    result = rest + sum(outputs.values())
    # The file for llama.cpp is put together of those of the layers.
    twice = sum(outputs.values()) if config.export == "gguf" else 0
    return Forecast(
        layers=tuple(rows),
        seconds=sum(row.seconds for row in rows) + speed.moving * rest,
        peak_rss_bytes=peak * processes,
        disk_bytes=result + twice + scratch * processes,
        output_bytes=result,
        workers=workers,
        alternatives=tuple(needs.alternatives(speed.working, processes)),
        source_bits=source_bits,
        output_bits=output_bits,
    )


def _written(checkpoint: Checkpoint, family: Family, config: CompressionConfig) -> tuple[int, int]:
    """Bytes of a layer's restored experts, and of everything that is not compressed, as they are written."""
    count, tensors = family.shape(checkpoint.config).num_experts, checkpoint.tensors
    keys = {key for layer in config.layer_numbers for key in family.expert_keys(layer, count)}
    others = sum(info.written_bytes for name, info in tensors.items() if name not in keys)
    if config.export == "gguf":
        return gguf_bytes(family, config.gguf_type.upper()), others
    if config.export == "compressed-tensors":
        return compressed_tensors_bytes(checkpoint, config.compressed_type), others
    first = family.expert_keys(config.layer_numbers[0], count)
    return sum(tensors[key].written_bytes for key in first), others


def _warn_of_quantized(checkpoint: Checkpoint, source_bits: float, output_bits: float) -> None:
    """Say what errors of a source that is quantized are measured against, and whether anything is gained over it."""
    gained = (
        "" if output_bits < source_bits else f", and {output_bits:.2f} bits are no gain: give fewer, or a smaller keep"
    )
    warnings.warn(
        f"{checkpoint.name} stores its experts at {source_bits:.2f} bits a weight ({', '.join(checkpoint.encodings)}); "
        f"errors are measured against what that decodes to{gained}",
        ResmoeWarning,
        stacklevel=3,
    )


def _near_duplicates(checkpoint: Checkpoint, family: Family, layer: int) -> bool:
    """Whether a layer's experts are near-duplicates, from the first block of two; only local files are read."""
    if checkpoint.hub_id is not None or family.shape(checkpoint.config).num_experts < 2:
        return False
    return are_near_duplicates(Problem([family.first_block(checkpoint, layer, expert) for expert in (0, 1)]))


@dataclass(frozen=True)
class _Needs:
    """Memory of one layer, and of the ways around it."""

    config: CompressionConfig
    center: CenterMethod
    shape: LayerShape
    near_duplicates: bool
    written_bytes: int
    running_bytes: int = 0

    def search(self) -> SearchConfig | None:
        """How the center is searched for, where that takes memory worth mentioning."""
        return self.center.search(self.shape, near_duplicates=self.near_duplicates)

    def memory(self, working: float) -> int:
        """Most memory of the process: while a center is searched, experts are compressed, or they are stored."""
        count, rows, columns = self.shape.sizes
        expert, search, method = 4 * rows * columns, self.search(), self.config.make_method()
        held = count * expert + (expert if method.uses_center else 0)
        searching = held + (search.peak_bytes if search else 0)
        stored = stored_bytes(self.config, self.shape)
        compressing = held + stored + round(max(working, 3) * expert)  # restored, it is there three times
        storing = held + self.written_bytes
        if self.config.export == "packed":  # what is stored is written as it is
            storing = compressing
        elif self.config.export != "dense":  # written experts gather while the others are restored
            storing = compressing + self.written_bytes
        calibrating, statistics = self.calibration()
        return anonymous_bytes() + max(calibrating, statistics + max(searching, compressing, storing))

    def calibration(self) -> tuple[int, int]:
        """Most memory while calibration text runs through the model, and what the statistics of all layers take."""
        if not self.running_bytes:
            return 0, 0
        count, neurons, hidden = self.shape.num_experts, self.shape.intermediate_size, self.shape.widths[-1]
        sums = count * (2 * neurons + hidden) + hidden**2
        means = count * (neurons + hidden) + hidden**2
        moments = count * (neurons**2 + hidden**2) if self.config.needs_moments else 0
        layers = len(self.config.layer_numbers)
        return self.running_bytes + layers * (8 * sums + 4 * moments), layers * 4 * (means + moments)

    def alternatives(self, working: float, workers: int) -> Iterator[tuple[str, int]]:
        """Yield ways that take less, those that change the result last."""
        for fewer in range(workers - 1, 0, -1):
            yield f"--scheduler local:{fewer}", fewer * self.memory(working)
        for options, center in self.center.cheaper():
            yield options, workers * replace(self, center=center).memory(working)


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"
