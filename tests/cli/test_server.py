"""Servers end with the command that started them, whatever ends it, and say so when a port is taken."""

import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from resmoe_lab._core.errors import ResmoeError, UsageError
from resmoe_lab.cli._server import check_port

#: Stands for a server: it writes its number, and ends in order when it is asked to.
_SERVER = """
import os, signal, sys, time
def end(*_):
    time.sleep(1.5)  # as long as kernels take
    open(sys.argv[1] + ".ended", "w").close()
    sys.exit(3)
signal.signal(signal.SIGTERM, end)
open(sys.argv[1] + ".new", "w").write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
while True:
    time.sleep(0.05)
"""


def _started(folder: Path) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """The command, and the server that it started."""
    script, number = folder / "server.py", folder / "number"
    script.write_text(_SERVER)
    code = f"""
        import sys
        from resmoe_lab.cli._server import run_server
        sys.exit(run_server([sys.executable, {str(script)!r}, {str(number)!r}]))
    """
    command = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    deadline = time.monotonic() + 60
    while not number.exists():
        assert time.monotonic() < deadline
        assert command.poll() is None
        time.sleep(0.05)
    return command, psutil.Process(int(number.read_text()))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_server_is_asked_to_end(name: str, tmp_path: Path) -> None:
    command, server = _started(tmp_path)
    command.send_signal(getattr(signal, name))
    assert command.wait(60) == 3
    assert not server.is_running()
    assert (tmp_path / "number.ended").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_server_ends_when_the_command_is_killed(tmp_path: Path) -> None:
    command, server = _started(tmp_path)
    command.kill()
    command.wait(60)
    psutil.wait_procs([server], timeout=60)
    assert not server.is_running()
    assert (tmp_path / "number.ended").exists()


def test_a_taken_port_is_refused_in_a_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ResmoeError, match=rf"port {port} of 127.0.0.1 is taken.*--port"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(UsageError, match="from 1 to 65535"):
        check_port("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ResmoeError, match="cannot be listened at"):
        check_port("192.0.2.1", 8866)
