"""Running a server of someone else's until it ends, or until we do: whichever comes first, both end."""

from __future__ import annotations

import ctypes
import errno
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from .._core.errors import ResmoeError, UsageError

#: Signals that ask a command to end; Windows has two of them.
_ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
#: Seconds that a server has to end its kernels.
_PATIENCE = 20.0
#: Seconds between looks at whether that time is over.
_LOOK = 0.5
_PR_SET_PDEATHSIG = 1


def check_port(host: str, port: int) -> None:
    """Refuse a port that cannot be listened at.

    Raises
    ------
    UsageError
        If there is no such port.
    ResmoeError
        If something listens there already, or this machine has no such address.
    """
    if not 1 <= port <= 65535:
        raise UsageError(f"port {port}, expected a number from 1 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((host, port))
        except (OSError, UnicodeError) as error:
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                reason = "is taken, perhaps by an app that still runs: end it, or name another with --port"
                raise ResmoeError(f"port {port} of {host} {reason}") from error
            raise ResmoeError(
                f"{host}:{port} cannot be listened at ({error}): name another --host or --port"
            ) from error


def run_server(command: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
    """Run a server, and return its exit status.

    A signal that ends this command is passed on, so that the server ends its kernels; one that does not end in time is
    killed. Should this process be killed without warning, Linux tells the server to end.
    """
    server = subprocess.Popen(
        command,
        env=None if env is None else dict(env),
        # No thread has begun yet, so that what runs in the child cannot wait for one.
        start_new_session=True,  # a key typed in the terminal reaches it through us, once
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
    )
    deadline: float | None = None

    def pass_on(number: int, frame: Any) -> None:
        nonlocal deadline
        # An orderly end, whatever we are told: Jupyter asks back when it is interrupted. The second time is in earnest.
        if deadline is None:
            server.terminate()
            deadline = time.monotonic() + _PATIENCE
        else:
            server.kill()

    before = {number: signal.signal(number, pass_on) for number in _ENDINGS}
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return server.wait(_LOOK)
            if deadline is not None and time.monotonic() > deadline:
                server.kill()
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with_parent() -> None:
    """Have the kernel end this process when the one that started it dies."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
