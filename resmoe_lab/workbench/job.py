"""Work that runs beside the notebook: in a thread, with ticks, cancellable, its result or error delivered."""

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
    """One piece of work in a thread of its own; it starts at once.

    Parameters
    ----------
    work
        Called with the progress renderer that it must tell about its steps. It can be cancelled only at a tick.
    progress
        Told every tick that `work` reports.
    done
        Called with the job once it has ended, however it ended.
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
        with float32_products():  # a cell may run beside it, and they share the process's settings
            return work(self._tick)

    def _tick(self, tick: Tick) -> None:
        if self._cancelled.is_set():
            raise Cancelled(f"{tick.task} was stopped at step {tick.done}")
        self._progress(tick)

    def cancel(self) -> None:
        """Ask the work to stop; it raises ``Cancelled`` at its next tick."""
        self._cancelled.set()

    @property
    def running(self) -> bool:
        """Whether the work has not ended yet."""
        return not self._future.done()

    @property
    def error(self) -> BaseException | None:
        """What ended the work before its time, if anything did; waits for its end."""
        return self._future.exception()

    def result(self, timeout: float | None = None) -> T:
        """Return what the work returned, or raise what it raised.

        Raises
        ------
        Cancelled
            If it was cancelled.
        TimeoutError
            If it has not ended after `timeout` seconds; it goes on.
        """
        return self._future.result(timeout)


class Latest:
    """Runs only the newest of the calls that are waiting.

    A slider sends many values while it is dragged; pictures of values that it has already left need not be drawn.

    Parameters
    ----------
    failed
        Told what a call raised; nobody else would notice.
    """

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="resmoe-latest")
        self._waiting: Future[None] | None = None

    def submit(self, call: Callable[[], None]) -> None:
        """Run `call` soon, in place of whatever has not begun yet."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = self._thread.submit(call)
        self._waiting.add_done_callback(self._ended)

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
        while (newest := self._waiting) is not None:
            if wait([newest], timeout).not_done:
                raise TimeoutError(f"the picture was not drawn in {timeout} seconds")
            if newest is self._waiting:
                newest.result()
                return
