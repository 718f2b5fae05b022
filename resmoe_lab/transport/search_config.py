"""What a search will cost, and whether products are computed as they are needed or kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from .._core.errors import UsageError
from .cost import rounding, squared_distances
from .problem import Problem
from .threads import useful_lanes

#: Float operations, and entries gathered, in a second on two cores; the choice depends on their ratio only.
FLOPS, GATHERED = 1.5e11, 5e8
#: Entries gathered in a second from files, once they are too big to stay in the page cache.
GATHERED_FROM_FILES = 5e7
#: Seconds of an assignment of unrelated neurons: ``ASSIGNMENT * p_I ** 2.2``.
ASSIGNMENT = 9e-9
#: Rounds that the coordinate solver usually takes when experts are unrelated.
ROUNDS = 2
#: Share of the products that copies need.
ALIKE = 0.35


@dataclass(frozen=True)
class SearchConfig:
    """How a search will be done.

    Attributes
    ----------
    mode
        ``"direct"``: products are computed as they are needed; ``"gram"``: each is computed once and kept.
    scratch
        Whether kept products go to files that are mapped into memory.
    reason
        Why, in one line.
    seconds
        Forecast, on two cores.
    peak_bytes
        Most memory in use beside the experts themselves; files that are mapped are not counted.
    scratch_bytes
        Room that the files take.
    lanes
        How many experts are matched at a time.
    """

    mode: str
    scratch: bool
    reason: str
    seconds: float
    peak_bytes: int
    scratch_bytes: int
    lanes: int = 1


def plan_search(
    experts: int,
    neurons: int,
    width: int,
    *,
    mode: str = "auto",
    solver: str = "coordinate",
    certify: bool = True,
    near_duplicates: bool = False,
    memory: int | None = None,
) -> SearchConfig:
    """Forecast a search, and choose its mode by a model of its cost.

    Parameters
    ----------
    experts, neurons, width
        N, p_I and D.
    mode
        ``"direct"``, ``"gram"``, or ``"auto"``.
    solver, certify
        As in :func:`~resmoe_lab.transport.barycenter`.
    near_duplicates
        Whether the experts are near-copies of one another.
    memory
        Bytes that may be used; half of the machine's if left out.

    Raises
    ------
    UsageError
        If the mode is unknown.
    """
    if mode not in ("auto", "direct", "gram"):
        raise UsageError(f"mode is {mode!r}, expected 'auto', 'direct' or 'gram'")
    memory = _memory() // 2 if memory is None else memory
    kept = 4 * neurons * neurons * experts * (experts + 1) // 2
    scratch = kept + _working(neurons, width) > memory
    rounds = 1 + (ROUNDS if solver == "coordinate" else 0)
    seconds = _seconds(experts, neurons, width, rounds=rounds, certify=certify)
    gathered = experts * rounds * experts * neurons**2
    seconds["gram"] += gathered / (GATHERED_FROM_FILES if scratch else GATHERED)
    if mode == "auto":
        mode, reason = _choose(seconds, near_duplicates=near_duplicates, room=not scratch or kept < 0.8 * _disk())
    else:
        reason = "asked for"
    scratch = scratch and mode == "gram"
    held = kept if mode == "gram" and not scratch else 0
    lanes = useful_lanes() if mode == "direct" and not near_duplicates else 1
    working = _working(neurons, width, lanes=lanes) + (_pot(experts, neurons, width) if solver == "pot" else 0)
    forecast = ALIKE * experts * _product(neurons, width) if near_duplicates else seconds[mode]
    return SearchConfig(mode, scratch, reason, forecast, held + working, kept if scratch else 0, lanes)


def _choose(seconds: dict[str, float], *, near_duplicates: bool, room: bool) -> tuple[str, str]:
    if near_duplicates:
        return "direct", "the experts are near-copies, which a part of the products is enough for"
    direct, gram = seconds["direct"], seconds["gram"]
    if gram >= direct:
        return "direct", f"computing products when needed takes about {direct:.0f} s, keeping them {gram:.0f} s"
    if not room:
        return "direct", "keeping all products would be faster, but neither memory nor disk has room for them"
    return "gram", f"keeping all products takes about {gram:.0f} s, computing them when needed {direct:.0f} s"


def _product(neurons: int, width: int) -> float:
    return 2.0 * neurons * neurons * width / FLOPS


def _seconds(experts: int, neurons: int, width: int, *, rounds: int, certify: bool) -> dict[str, float]:
    """Forecast products and assignments of both modes for unrelated experts; one of the rounds only checks."""
    pairs = experts * (experts - 1) // 2
    matched = pairs if certify else experts - 1
    assigned = (matched + experts * (rounds - 1)) * ASSIGNMENT * neurons**2.2
    return {
        "direct": (matched + experts * rounds) * _product(neurons, width) + assigned,
        "gram": (pairs + experts) * _product(neurons, width) + assigned,
    }


def _working(neurons: int, width: int, *, lanes: int = 1) -> int:
    """Bytes in use at the peak beside experts and kept products.

    Each lane has a cost matrix and a center without one expert; three more matrices are of an expert's size.
    """
    return lanes * 4 * neurons * neurons + (3 + lanes) * 4 * neurons * width


def _pot(experts: int, neurons: int, width: int) -> int:
    """Bytes that POT takes on top: all experts in float64, and cost, plan and arcs of one pair."""
    return 8 * experts * neurons * width + 3 * 8 * neurons * neurons


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _disk() -> int:
    return shutil.disk_usage(tempfile.gettempdir()).free


def scratch_folder() -> Path:
    """Return the folder that scratch files go to."""
    return Path(tempfile.gettempdir())


def are_near_duplicates(problem: Problem, *, rows: int = 64) -> bool:
    """Whether most of a few neurons of the first expert have a partner in the second that is clearly the nearest."""
    if problem.count < 2 or problem.neurons < 2:
        return False
    sample = torch.linspace(0, problem.neurons - 1, min(rows, problem.neurons), device=problem.device).long()
    distances = squared_distances(problem.experts[0][sample], problem.experts[1])
    first, second = distances.topk(2, 1, largest=False).values.unbind(1)
    clear = first < 0.8 * second - rounding(problem.width) * second
    return bool(clear.double().mean() > 0.9)
