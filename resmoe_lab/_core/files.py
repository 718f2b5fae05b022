"""Files that are whole or not there, and folders that one process at a time writes into."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import OutputError

_LOCK = ".lock"


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to, and put the file into its place when the block ends without an error.

    The content reaches the disk before the name does, so not even a power cut leaves half a file under the name.

    Parameters
    ----------
    path
        Where the file is to be, in a folder that is there.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written.
    """
    path = Path(path)
    # A name of its own: where a run was taken for dead too early, two processes may be writing the same file.
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        _flush(part)
        part.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise OutputError(
            f"{path} could not be written ({error.strerror or error}): what was finished before is valid; "
            "make room or name another place, and run again"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def is_partial_file(path: Path) -> bool:
    """Whether a file is what a writer that was killed has left: ours, or the safetensors library, which has its own."""
    return path.suffix == ".part" or re.fullmatch(r"\.tmp\w{6}", path.name) is not None


def remove_partial_files(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder."""
    for path in folder.iterdir():
        if is_partial_file(path):
            path.unlink(missing_ok=True)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keep every other process out of a folder until the block ends; the lock of a dead process holds nothing.

    Raises
    ------
    OutputError
        If another process holds the folder, naming it, or the folder cannot be written.
    """
    path = folder / _LOCK
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}): name another place") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.read(lock, 200).decode(errors="replace") or "another process"
        os.close(lock)
        raise OutputError(f"{folder} is being written by {owner}: wait for it, or name another place") from error
    try:
        os.ftruncate(lock, 0)
        os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Give a temporary folder, held by this process, and remove it when the block ends.

    Before that, what processes that were killed have left in folders with this prefix is removed.

    Parameters
    ----------
    prefix
        How the folder's name begins.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        if _abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix) as made, folder_lock(Path(made)):
        yield Path(made)


def _abandoned(folder: Path) -> bool:
    """Whether a folder is this user's own, and was held by a process that is gone. Links are not followed."""
    with suppress(OSError):
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            return False
        lock = os.open(folder / _LOCK, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            # Who holds a folder writes its name once it has the lock: without one, it may just be about to.
            if os.read(lock, 1):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
        finally:
            os.close(lock)
    return False


def _flush(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
