"""Experts two at a time, each on one thread: LAPACK's reductions gain little from more threads on one matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from itertools import islice
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

from .shared import SharedSetting

T = TypeVar("T")
R = TypeVar("R")

#: More lanes would hold more experts' temporaries at once.
_LANES = 2


@cache
def _libraries() -> ThreadpoolController:
    """The linear algebra libraries of this process; looking for them takes longer than a small product."""
    return ThreadpoolController()


def _limit() -> Callable[[], None]:
    limited: Callable[[], None] = _libraries().limit(limits=1, user_api="blas").restore_original_limits
    return limited


_ONE_BLAS_THREAD = SharedSetting(_limit)


def one_blas_thread() -> AbstractContextManager[None]:
    """Keep numpy's and scipy's linear algebra on the calling thread; several would wait for one another."""
    return _ONE_BLAS_THREAD.held()


def map_parallel(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Do work for every item, two at a time where this process has two threads, and return the results in order.

    Items are taken from their iterator only as they are needed.
    """
    threads = torch.get_num_threads()
    waiting, found = iter(items), list[R]()
    if threads < _LANES:
        return [work(item) for item in waiting]
    try:
        with (
            one_blas_thread(),
            ThreadPoolExecutor(_LANES, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        ):
            while batch := list(islice(waiting, _LANES)):
                found += pool.map(work, batch)
    finally:
        torch.set_num_threads(threads)
    return found
