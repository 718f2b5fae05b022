"""Parallel work on two threads: one pending job keeps a single core busy, however many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from itertools import islice
from queue import SimpleQueue
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from .shared_setting import SharedSetting

T = TypeVar("T")
R = TypeVar("R")

#: More threads would hold more temporaries at the same time.
MAX_THREADS = 2


@cache
def _libraries() -> ThreadpoolController:
    """Return the linear algebra libraries of this process; the search takes longer than a small product."""
    return ThreadpoolController()


def _limit() -> Callable[[], None]:
    limited: Callable[[], None] = _libraries().limit(limits=1, user_api="blas").restore_original_limits
    return limited


_ONE_BLAS_THREAD = SharedSetting(_limit)


def one_blas_thread() -> AbstractContextManager[None]:
    """Limit numpy's and scipy's linear algebra to the calling thread; LAPACK gains little from more on one matrix."""
    return _ONE_BLAS_THREAD.enabled()


def available_threads() -> int:
    """Return the number of jobs to run in parallel: at most two, and no more than torch's threads."""
    return min(MAX_THREADS, torch.get_num_threads())


@contextmanager
def compiled_threads() -> Iterator[None]:
    """Run numba's parallel loops on as many threads as torch has, and leave torch that number.

    Both use one OpenMP, and numba sets its number of threads to that of the cores when it is first used in parallel:
    torch would then run on all cores, whatever it was told.
    """
    import numba

    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def map_parallel(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Apply `work` to every item on two threads, if this process has two, and return the results in order.

    Each job runs on one thread. Items are taken from their iterator only when they are needed.
    """
    threads = torch.get_num_threads()
    iterator, results = iter(items), list[R]()
    if threads < MAX_THREADS:
        return [work(item) for item in iterator]
    try:
        with (
            one_blas_thread(),
            ThreadPoolExecutor(MAX_THREADS, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        ):
            while batch := list(islice(iterator, MAX_THREADS)):
                results += pool.map(work, batch)
    finally:
        torch.set_num_threads(threads)
    return results


def map_with_buffers(jobs: Sequence[Callable[[Tensor], T]], buffers: Sequence[Tensor]) -> list[T]:
    """Run jobs, as many at a time as there are buffers, and return their results in order.

    Parameters
    ----------
    jobs
        Each is called with a buffer that no other job uses at the same time.
    buffers
        Torch's threads are divided evenly among them.
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

    threads_per_job = max(1, threads // len(buffers))
    try:
        with ThreadPoolExecutor(len(buffers), initializer=torch.set_num_threads, initargs=(threads_per_job,)) as pool:
            return list(pool.map(run, jobs))
    finally:
        torch.set_num_threads(threads)


def chunked(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield `size` items at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))
