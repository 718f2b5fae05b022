"""Atomic writing of files, and locks on folders."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import OutputError

_LOCK_FILE = ".lock"


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to `path` when the block ends without an error.

    The content is flushed to disk before the rename, so not even a power failure leaves a partial file at `path`.

    Parameters
    ----------
    path
        The file, in an existing folder.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written.
    """
    path = Path(path)
    # A unique name: if a lock was lost, two processes may write the same file.
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        _flush(part)
        part.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise full_disk(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def full_disk(what: str | Path, error: OSError) -> OutputError:
    """Return what is said where something cannot be written: what it is, why, and what to do."""
    return OutputError(
        f"{what} could not be written ({error.strerror or error}): what was finished before is valid; "
        "make room or name another place, and run again"
    )


def make_folder(folder: Path) -> Path:
    """Make a folder and those above it, where they are not there; return it.

    Raises
    ------
    OutputError
        If that cannot be done.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made ({error.strerror}): name another place") from error
    return folder


def reserve(path: Path, nbytes: int) -> None:
    """Make a file of so many bytes whose room is its own: a mapped one that finds the disk full ends the process.

    Raises
    ------
    OutputError
        If there is no such room.
    """
    try:
        with path.open("wb") as stream:
            if sys.platform == "linux":
                os.posix_fallocate(stream.fileno(), 0, nbytes)
            else:
                stream.truncate(nbytes)
    except OSError as error:
        raise full_disk(path, error) from error


def check_place(folder: Path) -> None:
    """Refuse a folder that cannot be written, or not even be made.

    Parameters
    ----------
    folder
        What will be written to; neither it nor the folders above it need be there.

    Raises
    ------
    OutputError
        If it is, or lies below, a file or a folder that cannot be written.
    """
    place = next(path for path in [folder.absolute(), *folder.absolute().parents] if os.path.exists(path))
    there = place == folder.absolute()
    if not place.is_dir():
        where = "is" if there else f"cannot be made, since {place} is"
        raise OutputError(f"{folder} {where} a file, expected a folder: name another place")
    if not os.access(place, os.W_OK | os.X_OK):
        read_only = os.statvfs(place).f_flag & os.ST_RDONLY
        reason = os.strerror(errno.EROFS if read_only else errno.EACCES)
        raise OutputError(f"{folder} cannot be {'written' if there else 'made'} ({reason}): name another place")


def is_partial_file(path: Path) -> bool:
    """Whether a file was left by a killed writer: of this package or of the safetensors library."""
    return path.suffix == ".part" or re.fullmatch(r"\.tmp\w{6}", path.name) is not None


def remove_partial_files(folder: Path) -> None:
    """Remove the files that killed writers have left in a folder."""
    for path in folder.iterdir():
        if is_partial_file(path):
            path.unlink(missing_ok=True)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes until the block ends; the lock of a dead process is released.

    Raises
    ------
    OutputError
        If another process has locked the folder, or the folder cannot be written, or its disk is full.
    """
    path = folder / _LOCK_FILE
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
        try:
            os.ftruncate(lock, 0)
            os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
        except OSError as error:
            raise full_disk(path, error) from error
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Yield a temporary folder that is locked by this process, and remove it when the block ends.

    Folders with this prefix that killed processes have left are removed before.

    Parameters
    ----------
    prefix
        Prefix of the folder's name.

    Raises
    ------
    OutputError
        If there is no room for it.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
    try:
        made = tempfile.TemporaryDirectory(prefix=prefix)
    except OSError as error:
        raise full_disk(tempfile.gettempdir(), error) from error
    with made as name, folder_lock(Path(name)):
        yield Path(name)


def _is_abandoned(folder: Path) -> bool:
    """Whether a folder belongs to this user and was locked by a process that is gone. Links are not followed."""
    with suppress(OSError):
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            return False
        lock = os.open(folder / _LOCK_FILE, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            # The owner writes its name once it has the lock: an empty file may be about to be locked.
            if os.read(lock, 1):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
        finally:
            os.close(lock)
    return False


def _flush(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
