"""The configuration of a search, selected by a model of its cost in time, memory and disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from .._core.deprecation import renamed_arguments
from .._core.errors import UsageError
from .._core.threads import available_threads
from .cost import distances_between, rounding
from .problem import Problem
from .rows import Rows

#: Float operations and gathered entries per second on two cores; the selected mode depends on their ratio only.
FLOPS_PER_SECOND, GATHERED_PER_SECOND = 1.5e11, 5e8
#: Gathered entries per second from files that are too large for the page cache.
GATHERED_FROM_FILES_PER_SECOND = 5e7
#: Seconds of an assignment of unrelated neurons: ``ASSIGNMENT * p_I ** 2.2``.
ASSIGNMENT = 4.2e-9
#: Typical number of rounds of the coordinate solver on unrelated experts.
ROUNDS = 2
#: Fraction of the products that near-duplicates need.
NEAR_DUPLICATE_FRACTION = 0.35


@dataclass(frozen=True)
class SearchConfig:
    """The configuration of a search, and its forecast cost.

    Attributes
    ----------
    mode
        ``"direct"``: inner products are computed when they are needed; ``"gram"``: each is computed once and cached.
    scratch
        Whether cached products go to memory-mapped files.
    reason
        Why this mode, in one line.
    seconds
        Forecast wall time on two cores.
    peak_bytes
        Forecast peak memory besides the experts themselves, without memory-mapped files.
    scratch_bytes
        Disk space of the files.
    threads
        Number of experts that are matched at the same time.
    """

    mode: str
    scratch: bool
    reason: str
    seconds: float
    peak_bytes: int
    scratch_bytes: int
    threads: int = 1


@renamed_arguments(alike="near_duplicates")
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
    """Select the mode of a search by a model of its cost.

    Parameters
    ----------
    experts, neurons, width
        N, p_I and D.
    mode
        ``"direct"``, ``"gram"``, or ``"auto"``.
    solver, certify
        As in :func:`~resmoe_lab.transport.barycenter`.
    near_duplicates
        Whether the experts are near-duplicates of one another.
    memory
        Bytes that may be used (default: half of the machine's).

    Raises
    ------
    UsageError
        If the mode is unknown.

    Returns
    -------
    SearchConfig
        The mode and its forecast cost.

    Examples
    --------
    >>> plan_search(8, 3072, 6144, memory=8 << 30).mode
    'gram'
    >>> plan_search(8, 3072, 6144, near_duplicates=True, memory=8 << 30).mode
    'direct'
    """
    if mode not in ("auto", "direct", "gram"):
        raise UsageError(f"mode is {mode!r}, expected 'auto', 'direct' or 'gram'")
    memory = _total_memory() // 2 if memory is None else memory
    products_bytes = 4 * neurons * neurons * experts * (experts + 1) // 2
    scratch = products_bytes + _working_bytes(neurons, width) > memory
    rounds = 1 + (ROUNDS if solver == "coordinate" else 0)
    seconds = _mode_seconds(experts, neurons, width, rounds=rounds, certify=certify)
    gathered = experts * rounds * experts * neurons**2
    seconds["gram"] += gathered / (GATHERED_FROM_FILES_PER_SECOND if scratch else GATHERED_PER_SECOND)
    if mode == "auto":
        mode, reason = _select_mode(
            seconds, near_duplicates=near_duplicates, fits=not scratch or products_bytes < 0.8 * _free_disk()
        )
    else:
        reason = "set by the caller"
    scratch = scratch and mode == "gram"
    in_memory = products_bytes if mode == "gram" and not scratch else 0
    threads = 1 if near_duplicates else available_threads()
    working_bytes = _working_bytes(neurons, width, threads=threads) + (
        _pot_bytes(experts, neurons, width) if solver == "pot" else 0
    )
    forecast = (
        NEAR_DUPLICATE_FRACTION * experts * _product_seconds(neurons, width) if near_duplicates else seconds[mode]
    )
    return SearchConfig(
        mode, scratch, reason, forecast, in_memory + working_bytes, products_bytes if scratch else 0, threads
    )


def _select_mode(seconds: dict[str, float], *, near_duplicates: bool, fits: bool) -> tuple[str, str]:
    if near_duplicates:
        return "direct", "the experts are near-duplicates, which need only a part of the products"
    direct, gram = seconds["direct"], seconds["gram"]
    if gram >= direct:
        return "direct", f"computing products when needed takes about {direct:.0f} s, caching them {gram:.0f} s"
    if not fits:
        return "direct", "caching all products would be faster, but neither memory nor disk has room for them"
    return "gram", f"caching all products takes about {gram:.0f} s, computing them when needed {direct:.0f} s"


def _product_seconds(neurons: int, width: int) -> float:
    return 2.0 * neurons * neurons * width / FLOPS_PER_SECOND


def _mode_seconds(experts: int, neurons: int, width: int, *, rounds: int, certify: bool) -> dict[str, float]:
    """Forecast the time of products and assignments for unrelated experts; the last round only checks."""
    pairs = experts * (experts - 1) // 2
    matched = pairs if certify else experts - 1
    assigned = (matched + experts * (rounds - 1)) * ASSIGNMENT * neurons**2.2
    return {
        "direct": (matched + experts * rounds) * _product_seconds(neurons, width) + assigned,
        "gram": (pairs + experts) * _product_seconds(neurons, width) + assigned,
    }


def _working_bytes(neurons: int, width: int, *, threads: int = 1) -> int:
    """Return the peak memory besides the experts and the cached products.

    Each thread has a cost matrix and a center without one expert; three more matrices are of an expert's size.
    """
    return threads * 4 * neurons * neurons + (3 + threads) * 4 * neurons * width


def _pot_bytes(experts: int, neurons: int, width: int) -> int:
    """Return the memory of POT itself: all experts in float64, and cost, plan and arcs of one pair."""
    return 8 * experts * neurons * width + 3 * 8 * neurons * neurons


def _total_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _free_disk() -> int:
    return shutil.disk_usage(tempfile.gettempdir()).free


def scratch_folder() -> Path:
    """Return the folder of scratch files."""
    return Path(tempfile.gettempdir())


def are_near_duplicates(problem: Problem, *, rows: int = 64) -> bool:
    """Whether most of a sample of the first expert's neurons have a clear nearest neighbor in the second expert."""
    if problem.count < 2 or problem.neurons < 2:
        return False
    sample = torch.linspace(0, problem.neurons - 1, min(rows, problem.neurons), device=problem.device).long()
    distances = distances_between(Rows(problem.expert(0, sample)), problem.experts[1])
    first, second = distances.topk(2, 1, largest=False).values.unbind(1)
    clear = first < 0.8 * second - rounding(problem.width) * second
    return bool(clear.double().mean() > 0.9)
