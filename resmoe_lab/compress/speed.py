"""How fast this machine is, measured on a small layer of the same proportions and remembered."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .._core.cache import cache_folder
from .._core.errors import OutputError, UsageError
from .._core.machine import machine, peak_memory, release_memory, unpooled_memory
from .._core.parsing import read_json
from ..centers import NO_CENTER, Center, CenterMethod, Statistics, find_center
from ..checkpoint.writer import digest, write_json, write_tensors
from ..experts import Block, ExpertStack, LayerShape
from ..methods import forecast_ledger
from ..store.layout import shape_blocks
from .config import CompressionConfig

#: A measurement of so many seconds is long enough to be scaled up.
_ENOUGH = 0.4
#: Unless a layer twice as wide took hardly longer: what was timed then is what does not grow with it.
_GROWTH = 2.5
#: Times that it is taken, as long as that takes less than so many seconds; the shortest counts.
_TRIES, _PATIENCE = 3, 3.0
#: Entries of the first, smallest layer that is timed, and of an expert that is large enough to watch the memory of.
_FIRST, _WATCHED = 1 << 17, 1 << 21
#: Floats that are written to measure the disk.
_WRITTEN = 1 << 21
#: How far near-duplicates are from their common parent, as a share of the weights.
_NOISE = 0.1
#: Raised whenever something is measured in another way: what older versions remember is measured again.
_VERSION = 2
#: Time grows at least with the entries, and not faster than products of square matrices.
_EXPONENTS = (2.0, 3.0)


@dataclass(frozen=True)
class Curve:
    """Seconds as a power of a layer's side, through what was measured last.

    Parameters
    ----------
    side
        What was measured, as a share of the whole layer's rows (and columns).
    seconds
        How long it took.
    exponent
        How time grows with the side.
    """

    side: float
    seconds: float
    exponent: float

    def whole(self) -> float:
        """Forecast for the whole layer."""
        return self.seconds * (1 / self.side) ** self.exponent


@dataclass(frozen=True)
class Speed:
    """What was measured for one kind of layer.

    Parameters
    ----------
    center, method
        Time to find the center, and to compress with it.
    working
        Bytes that compressing takes at once beside the experts and its result, for each of one expert's in float32.
    moving
        Seconds to convert, hash and write one byte of a layer.
    """

    center: Curve
    method: Curve
    working: float
    moving: float


def measured_speed(shape: LayerShape, config: CompressionConfig, *, near_duplicates: bool, folder: Path) -> Speed:
    """Measure small layers, each twice as wide as the one before, until one takes long enough.

    Parameters
    ----------
    shape
        Sizes of the whole layer.
    config
        How it will be compressed.
    near_duplicates
        Whether the experts are near-duplicates of one another, which are matched much faster than unrelated ones.
    folder
        On the disk that will be written to.
    """
    center = config.make_center().like_whole(shape, near_duplicates=near_duplicates)
    work = _Work(config, center, near_duplicates)
    place = existing(folder)
    settings = config.model_dump(mode="json", exclude={"layers", "export", "calibration"})
    searched = [near_duplicates, {name: str(value) for name, value in vars(center).items()}]
    threads = torch.get_num_threads()
    climb = [_VERSION, _ENOUGH, _GROWTH, _PATIENCE]
    key = json.dumps(
        [climb, machine(), torch.__version__, threads, astuple(shape), settings, searched, place.stat().st_dev],
        sort_keys=True,
    )
    remembered = _remembered()
    if (known := _known(remembered.get(key))) is not None:
        return known
    measured = _measure(shape, work, place)
    with suppress(OutputError, OSError):  # a machine without a home measures every time
        cache_folder().mkdir(parents=True, exist_ok=True)
        write_json(_file(), remembered | {key: asdict(measured)})
    return measured


def _known(entry: Any) -> Speed | None:
    """What was remembered; None if it is damaged, or nothing."""
    try:
        center, method = (
            Curve(**{name: float(value) for name, value in entry[part].items()}) for part in ("center", "method")
        )
        return Speed(center, method, float(entry["working"]), float(entry["moving"]))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def stored_bytes(config: CompressionConfig, shape: LayerShape) -> int:
    """Return the memory of what is stored of a layer."""
    return forecast_ledger(
        config.make_method(), shape, keep=config.keep, center=config.has_center, storage=config.storage
    ).true_bytes


def _file() -> Path:
    return cache_folder() / "speed.json"


def _remembered() -> dict[str, Any]:
    try:
        content = read_json(_file())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(place for place in [folder.absolute(), *folder.absolute().parents] if place.is_dir())


@dataclass(frozen=True)
class _Work:
    """What is measured."""

    config: CompressionConfig
    center: CenterMethod
    near_duplicates: bool

    def fits(self, shape: LayerShape) -> bool:
        """Whether the method can do it at all: few ranks fit into a very small matrix."""
        try:
            self.config.make_method().counts(shape, self.config.keep)
        except UsageError:
            return False
        return True

    def layer(self, shape: LayerShape) -> ExpertStack:
        """Draw a layer of that shape."""
        generator = torch.Generator().manual_seed(self.config.seed)
        weights = torch.randn(shape.sizes, generator=generator)
        if self.near_duplicates:
            parent = weights[0].clone()
            for expert in weights:
                order = torch.randperm(len(parent), generator=generator)
                expert.mul_(_NOISE).add_(parent[order])
        return ExpertStack(weights, tuple(Block(*block) for block in shape_blocks(shape)), layer=0)

    def search(self, stack: ExpertStack) -> Center | None:
        """Find the center as it will be found."""
        if not self.config.has_center:
            return None
        return self.center.find(stack, statistics=Statistics.even(stack))

    def stand_in(self, stack: ExpertStack) -> Center:
        """Return a center that takes no search, for what does not depend on how it was found."""
        return find_center(stack, center="average" if self.config.has_center else NO_CENTER)

    def compress(self, stack: ExpertStack, center: Center) -> None:
        """Compress and restore the layer, as a run does."""
        config, statistics = self.config, Statistics.even(stack)
        layer = config.make_method().compress(stack, config.keep, center, statistics=statistics, storage=config.storage)
        for k in range(stack.num_experts):
            layer.restore_expert(k)
        stack.mean_squared_norm()


def _scaled(shape: LayerShape, side: float) -> LayerShape:
    """A layer of the same experts with shorter sides."""
    widths = tuple(max(1, round(side * width)) for width in shape.widths)
    return LayerShape(shape.num_experts, max(2, round(side * shape.intermediate_size)), widths)


def _measure(shape: LayerShape, work: _Work, folder: Path) -> Speed:
    searching = _climb(shape, work, lambda stack: partial(work.search, stack))
    compressing = _climb(shape, work, lambda stack: partial(work.compress, stack, work.stand_in(stack)))
    return Speed(searching, compressing, _working(shape, work), _moving(folder))


def _climb(shape: LayerShape, work: _Work, prepare: Callable[[ExpertStack], Callable[[], object]]) -> Curve:
    """Time something on layers, each twice as wide as the one before, until one takes long enough."""
    halvings = max(0, math.ceil(math.log2(math.prod(shape.sizes) / _FIRST) / 2))
    points: list[tuple[float, float]] = []
    for halving in range(halvings, -1, -1):
        side = 0.5**halving
        small = _scaled(shape, side)
        if halving and not work.fits(small):
            continue
        run = prepare(work.layer(small))
        if not points and not _warmed_up(run, needed=not halving):
            continue
        tries = [_seconds(run)]
        while len(tries) < _TRIES and sum(tries) < _PATIENCE:
            tries.append(_seconds(run))
        seconds = min(tries)  # others' work only ever makes it longer
        points.append((side, seconds))
        if seconds > _ENOUGH and len(points) > 1 and (seconds > _GROWTH * points[-2][1] or seconds > _PATIENCE):
            break
    return _curve(points)


def _warmed_up(run: Callable[[], object], *, needed: bool) -> bool:
    """Run once, as what is loaded and compiled once does not grow with the layer; false if so small a layer fails.

    Headers and tables may take more than the bits of a layer that is a thousandth of the real one.
    """
    try:
        run()
    except UsageError:
        if needed:
            raise
        return False
    return True


def _seconds(run: Callable[[], object]) -> float:
    """Seconds that something takes on a machine with nothing else to do."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    # Several threads take more processor time than wall time; waiting for other processes, more wall time.
    return min(time.perf_counter() - wall, time.process_time() - processor)


def _curve(points: Sequence[tuple[float, float]]) -> Curve:
    """The power through the last two points."""
    side, seconds = points[-1]
    if len(points) < 2 or min(seconds, points[-2][1]) <= 0:
        return Curve(side, seconds, _EXPONENTS[1])
    exponent = math.log(seconds / points[-2][1]) / math.log(side / points[-2][0])
    # Where even the small layer took long, most of it may be work that does not grow with the layer: a training.
    least = 0.0 if points[-2][1] > _ENOUGH else _EXPONENTS[0]
    return Curve(side, seconds, min(max(exponent, least), _EXPONENTS[1]))


def _working(shape: LayerShape, work: _Work) -> float:
    """Memory that compressing takes beside the experts and its result, as a multiple of one expert's own."""
    experts = shape.num_experts if work.config.make_method().pools else 2
    side = min(1.0, math.sqrt(2 * _WATCHED / (experts * shape.intermediate_size * shape.width)))
    small = replace(_scaled(shape, side), num_experts=experts)
    if not work.fits(small):
        small = replace(shape, num_experts=experts)
    stack = work.layer(small)
    # A center is left out where it is not worth its bytes, which takes less memory.
    stack.weights[1:].mul_(_NOISE).add_(stack.weights[0])
    with unpooled_memory():
        for _ in range(2):  # what the first call takes for good is not counted
            center = work.stand_in(stack)
            release_memory()
            with peak_memory() as peak:
                before = peak.nbytes
                work.compress(stack, center)
    made = stored_bytes(work.config, small)
    return max(0, peak.nbytes - before - made) / (stack.weights[0].numel() * 4)


def _moving(folder: Path) -> float:
    """Seconds to convert, hash (what came and what goes) and write one byte."""
    floats = torch.ones(_WRITTEN)
    try:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            begun = time.perf_counter()
            write_tensors(Path(scratch) / "x.safetensors", {"x": floats})
            written = time.perf_counter() - begun
    except (OSError, OutputError):  # a folder that cannot be written is refused later, with its name
        written = 0.0
    begun = time.perf_counter()
    digest({"x": floats.clone()})
    hashed = time.perf_counter() - begun
    return (written + 2 * hashed) / (floats.numel() * 4)
