"""Two assignments at a time: one keeps a single core busy, however many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

#: More lanes would want more room: each has a cost matrix of its own.
LANES = 2


def useful_lanes(device: torch.device | None = None) -> int:
    """How many lanes this process can keep busy."""
    on_cpu = device is None or device.type == "cpu"
    return min(LANES, torch.get_num_threads()) if on_cpu else 1


def in_lanes(jobs: Sequence[Callable[[Tensor], T]], buffers: Sequence[Tensor]) -> list[T]:
    """Run jobs, as many at a time as there are buffers, and return their results in order.

    Parameters
    ----------
    jobs
        Each is given one of the buffers to work in, for as long as it runs.
    buffers
        The threads of this process are shared out over them.
    """
    if len(buffers) == 1 or len(jobs) < 2:
        return [job(buffers[0]) for job in jobs]
    threads = torch.get_num_threads()
    free: SimpleQueue[Tensor] = SimpleQueue()
    for buffer in buffers:
        free.put(buffer)

    def run(job: Callable[[Tensor], T]) -> T:
        buffer = free.get()
        try:
            return job(buffer)
        finally:
            free.put(buffer)

    share = max(1, threads // len(buffers))
    try:
        with ThreadPoolExecutor(len(buffers), initializer=torch.set_num_threads, initargs=(share,)) as pool:
            return list(pool.map(run, jobs))
    finally:
        torch.set_num_threads(threads)


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield so many items at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))
