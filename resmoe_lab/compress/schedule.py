"""Who does the work: this process, or the workers of a dask cluster. The work itself does not know."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, TypeVar

from .._core.errors import ResmoeError, UsageError
from .._core.machine import cores

T = TypeVar("T")
#: Where the workers of this machine are watched, if the port is free.
_DASHBOARD = "127.0.0.1:8787"
#: Seconds that a scheduler may take to answer.
_PATIENCE = 20
_HELP = "expected 'local:2' for two processes of this machine, or the address of a scheduler such as tcp://host:8786"


def worker_count(scheduler: str | None) -> int:
    """How many units are in the memory of this machine at once.

    Raises
    ------
    UsageError
        If the text is not understood.
    """
    if scheduler is None:
        return 1
    if match := re.fullmatch(r"local:([1-9]\d{0,3})", scheduler):
        return int(match[1])
    if re.fullmatch(r"(tcp|tls|ws|wss)://\S+", scheduler):
        return 0
    raise UsageError(f"scheduler {scheduler!r} is not understood: {_HELP}")


def check_scheduler(scheduler: str | None) -> None:
    """Refuse a scheduler that cannot be asked.

    Raises
    ------
    UsageError
        If the text is not understood, or dask is not installed.
    """
    worker_count(scheduler)
    if scheduler is not None and find_spec("distributed") is None:
        raise UsageError(f"scheduler {scheduler!r} needs dask.distributed: pip install 'resmoe-lab[cluster]'")


def run_all(work: Callable[[T], None], units: Iterable[T], *, scheduler: str | None = None) -> Generator[T, None, None]:
    """Do the work for every unit and yield each when it is done, in whatever order they come.

    Parameters
    ----------
    work
        What is done; a worker that is lost in the middle leaves it to another.
    units
        What it is done for; here, each is asked for when the one before is done.
    scheduler
        None: here, one after another. ``"local:2"``: in so many processes of this machine. ``"tcp://host:8786"``: on
        the workers of that dask scheduler.

    Raises
    ------
    UsageError
        If the scheduler is not understood, or dask is not installed.
    ResmoeError
        If there is no such scheduler, or a unit's workers die again and again.
    """
    if scheduler is None:
        for unit in units:
            work(unit)
            yield unit
    else:
        yield from _distribute(work, units, scheduler)


def _distribute(work: Callable[[T], None], units: Iterable[T], scheduler: str) -> Generator[T, None, None]:
    with _client(scheduler) as client:
        from distributed import KilledWorker, as_completed

        # Not pure: a unit that was done in an earlier run is looked at again, not remembered.
        futures = {client.submit(work, unit, pure=False): unit for unit in units}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except KilledWorker as error:
            raise ResmoeError(f"the workers died again and again ({error}): start fewer on a machine") from error
        finally:
            client.cancel(list(futures))


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    """Connect to the workers; those of this machine are started for the occasion."""
    check_scheduler(scheduler)
    from distributed import Client, LocalCluster

    count = worker_count(scheduler)
    if not count:
        try:
            with Client(scheduler, timeout=_PATIENCE) as client:
                yield client
        except OSError as error:
            raise ResmoeError(f"no dask scheduler answers at {scheduler} ({error}): {_HELP}") from error
        return
    threads = {"OMP_NUM_THREADS": str(max(1, cores() // count))}
    # Without a limit of dask's own: it would count mapped files as memory and kill workers that are well.
    options: dict[str, Any] = {"memory_limit": 0, "threads_per_worker": 1, "env": threads}
    with LocalCluster(n_workers=count, dashboard_address=_DASHBOARD, **options) as cluster, Client(cluster) as client:
        yield client
