"""Background jobs in threads: with progress, cancellation, and the result or error delivered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from .._core.errors import Cancelled
from .._core.precision import float32_products
from .._core.progress import Progress, Tick, silent

T = TypeVar("T")


class Job(Generic[T]):
    """A function that runs in a thread of its own; it starts at once.

    Parameters
    ----------
    work
        Called with a progress callback, which it must call at every step: cancelling takes effect there.
    progress
        Called with every tick that `work` reports.
    done
        Called with the job once it has ended, with a result or an error.
    """

    def __init__(
        self,
        work: Callable[[Progress], T],
        *,
        progress: Progress = silent,
        done: Callable[[Job[T]], None] | None = None,
    ) -> None:
        self._cancelled = threading.Event()
        self._progress = progress
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="resmoe-job")
        self._future: Future[T] = thread.submit(self._run, work)
        thread.shutdown(wait=False)
        if done is not None:
            self._future.add_done_callback(lambda _: done(self))

    def _run(self, work: Callable[[Progress], T]) -> T:
        with float32_products():  # a notebook cell may run at the same time, with the same process-wide settings
            return work(self._tick)

    def _tick(self, tick: Tick) -> None:
        if self._cancelled.is_set():
            raise Cancelled(f"{tick.task} was stopped at step {tick.done}")
        self._progress(tick)

    def cancel(self) -> None:
        """Request cancellation; the work raises ``Cancelled`` at its next tick."""
        self._cancelled.set()

    @property
    def running(self) -> bool:
        """Whether the work is still running."""
        return not self._future.done()

    @property
    def error(self) -> BaseException | None:
        """The error that ended the work, or None; waits for its end."""
        return self._future.exception()

    def result(self, timeout: float | None = None) -> T:
        """Return what the work returned, or raise what it raised.

        Raises
        ------
        Cancelled
            If it was cancelled.
        TimeoutError
            If it has not ended after `timeout` seconds; it keeps running.
        """
        return self._future.result(timeout)


class Latest:
    """Runs only the newest of the pending calls.

    A slider sends many values while it is dragged; pictures of values that it has already left need not be drawn.

    Parameters
    ----------
    failed
        Called with the error that a call raised.
    """

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="resmoe-latest")
        self._pending: Future[None] | None = None

    def submit(self, call: Callable[[], None]) -> None:
        """Run `call` in the thread, in place of a pending call that has not started yet."""
        if self._pending is not None:
            self._pending.cancel()
        self._pending = self._thread.submit(call)
        self._pending.add_done_callback(self._ended)

    def _ended(self, future: Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._failed(error)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the newest call has ended, and raise what it raised.

        Raises
        ------
        TimeoutError
            If it has not ended after `timeout` seconds.
        """
        while (newest := self._pending) is not None:
            if wait([newest], timeout).not_done:
                raise TimeoutError(f"the picture was not drawn in {timeout} seconds")
            if newest is self._pending:
                newest.result()
                return
