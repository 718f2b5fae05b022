"""How fast this machine is, measured on a small layer of the same proportions and remembered."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from .._core.cache import cache_folder
from .._core.errors import OutputError, UsageError
from .._core.machine import machine, peak_memory, release_memory
from ..centers import Center, Statistics, find_center
from ..checkpoint.writer import digest, write_json, write_tensors
from ..experts import Block, ExpertStack, LayerShape
from ..methods import METHODS, Method, piece_tensors
from ..transport import SearchConfig, plan_search

#: A measurement of so many seconds is long enough to be scaled up.
_ENOUGH = 0.4
#: Times that it is taken, as long as that takes less than so many seconds; the shortest counts.
_TRIES, _PATIENCE = 3, 3.0
#: Entries of the first, smallest layer that is timed, and of an expert that is large enough to watch the memory of.
_FIRST, _WATCHED = 1 << 17, 1 << 21
#: Floats that are written to measure the disk.
_WRITTEN = 1 << 21
#: How far near-copies are from their common parent, as a share of the weights.
_NOISE = 0.1
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
        Bytes that compressing one expert takes beside its result, for each of its bytes in float32.
    moving
        Seconds to convert, hash and write one byte of a layer.
    """

    center: Curve
    method: Curve
    working: float
    moving: float


def measured_speed(
    shape: LayerShape,
    *,
    method: str,
    keep: float,
    center: str,
    options: Mapping[str, Any],
    near_duplicates: bool,
    folder: Path,
    seed: int = 0,
) -> Speed:
    """Measure small layers, each twice as wide as the one before, until one takes long enough.

    Parameters
    ----------
    shape
        Sizes of the whole layer.
    method, keep, center, options, seed
        As they will be used.
    near_duplicates
        Whether the experts are near-copies of one another, which are matched much faster than unrelated ones.
    folder
        On the disk that will be written to.
    """
    if center == "wasserstein":  # a small layer would be searched in another way than the whole
        options = {**options, "mode": center_search(shape, options, near_duplicates=near_duplicates).mode}
    work = _Work(method, keep, center, options, near_duplicates, seed)
    place = existing(folder)
    key = json.dumps(
        [machine(), torch.__version__, torch.get_num_threads(), astuple(shape), astuple(work), place.stat().st_dev]
    )
    known = _remembered()
    if key not in known:
        known[key] = asdict(_measure(shape, work, place))
        with suppress(OutputError, OSError):  # a machine without a home measures every time
            cache_folder().mkdir(parents=True, exist_ok=True)
            write_json(_file(), known)
    found = known[key]
    return Speed(Curve(**found["center"]), Curve(**found["method"]), found["working"], found["moving"])


def center_search(shape: LayerShape, options: Mapping[str, Any], *, near_duplicates: bool) -> SearchConfig:
    """Plan the search for a Wasserstein center with the options that decide what it takes."""
    chosen = {name: options[name] for name in ("mode", "solver") if name in options}
    return plan_search(*shape.sizes, near_duplicates=near_duplicates, **chosen)


def piece_bytes(method: Method, shape: LayerShape, *, keep: float) -> int:
    """Memory of the pieces that a method makes of a layer."""
    tensors = [tensor for piece in method.outline(shape, keep) for tensor in piece_tensors(piece)]
    return sum(tensor.nbytes for tensor in tensors)


def _file() -> Path:
    return cache_folder() / "speed.json"


def _remembered() -> dict[str, Any]:
    try:
        content = json.loads(_file().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(place for place in [folder.absolute(), *folder.absolute().parents] if place.is_dir())


@dataclass(frozen=True)
class _Work:
    """What is measured."""

    method: str
    keep: float
    center: str
    options: Mapping[str, Any]
    near_duplicates: bool
    seed: int

    def fits(self, shape: LayerShape) -> bool:
        """Whether the method can do it at all: few ranks fit into a very small matrix."""
        try:
            METHODS[self.method]().outline(shape, self.keep)
        except UsageError:
            return False
        return True

    def layer(self, shape: LayerShape) -> ExpertStack:
        generator = torch.Generator().manual_seed(self.seed)
        weights = torch.randn(shape.sizes, generator=generator)
        if self.near_duplicates:
            parent = weights[0].clone()
            for expert in weights:
                order = torch.randperm(len(parent), generator=generator)
                expert.mul_(_NOISE).add_(parent[order])
        ends = list(accumulate(shape.widths))
        parts = enumerate(zip([0, *ends[:-1]], ends, strict=True), start=1)
        return ExpertStack(weights, tuple(Block(f"w{number}", *part) for number, part in parts), layer=0)

    def search(self, stack: ExpertStack) -> Center | None:
        if self.center == "none":
            return None
        given: dict[str, Any] = {"seed": self.seed, "statistics": Statistics.even(stack)}
        return find_center(stack, center=self.center, **given, **self.options)

    def stand_in(self, stack: ExpertStack) -> Center:
        """A center that takes no search, for what does not depend on how it was found."""
        return find_center(stack, center="none" if self.center == "none" else "average")

    def compress(self, stack: ExpertStack, center: Center) -> None:
        method = METHODS[self.method](seed=self.seed)
        for piece in method.compress(stack, self.keep, center, statistics=Statistics.even(stack)).pieces:
            piece.restore()
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
        if not points:
            run()  # what is loaded and compiled once does not grow with the layer
        tries = [_seconds(run)]
        while len(tries) < _TRIES and sum(tries) < _PATIENCE:
            tries.append(_seconds(run))
        seconds = min(tries)  # others' work only ever makes it longer
        points.append((side, seconds))
        if seconds > _ENOUGH and len(points) > 1:
            break
    return _curve(points)


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
    """Memory that one expert takes while it is compressed, as a multiple of its own."""
    side = min(1.0, math.sqrt(_WATCHED / (shape.intermediate_size * shape.width)))
    pair = replace(_scaled(shape, side), num_experts=2)
    if not work.fits(pair):
        pair = replace(shape, num_experts=2)
    stack = work.layer(pair)
    for _ in range(2):  # what the first call takes for good is not counted
        center = work.stand_in(stack)
        release_memory()
        with peak_memory() as peak:
            before = peak.nbytes
            work.compress(stack, center)
    made = piece_bytes(METHODS[work.method](seed=work.seed), pair, keep=work.keep)
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
