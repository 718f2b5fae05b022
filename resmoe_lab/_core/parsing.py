"""Reading of files that anybody may have made: whatever is in them, it is an error of ours or a value."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

#: What unpacks to more than so many times its size, and to more than so many bytes, is refused: it is no data of ours.
MOST_TIMES, MOST_BYTES = 10, 1 << 26


def parse_json(text: str | bytes) -> Any:
    """Return what JSON says.

    Raises
    ------
    ValueError
        If it is no JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_json(path: Path) -> Any:
    """Return what a JSON file says.

    Raises
    ------
    ValueError
        If it is no JSON.
    OSError
        If it cannot be read.
    """
    return parse_json(path.read_bytes().decode("utf-8"))


def read_arrays(path: Path, *, most_times: int = MOST_TIMES) -> dict[str, np.ndarray]:
    """Return the arrays of numbers of an ``.npz`` file; none is made before its bytes are there.

    Parameters
    ----------
    path
        The file.
    most_times
        How many times its size it may unpack to, beyond :data:`MOST_BYTES`.

    Raises
    ------
    ValueError
        If it is damaged or cannot be read, or unpacks to far more than its size.
    """
    arrays = {}
    try:
        size = path.stat().st_size
        most = max(MOST_BYTES, most_times * size)
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                most -= entry.file_size
                if most < 0 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{entry.filename} unpacks to {entry.file_size:,} bytes")
                if entry.compress_size > size:
                    raise ValueError(f"{entry.filename} takes {entry.compress_size:,} bytes of {size:,}")
                arrays[entry.filename.removesuffix(".npy")] = _array(archive.read(entry))
    except (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    return arrays


def _array(content: bytes) -> np.ndarray:
    """The array of an ``.npy`` file."""
    stream = BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"an array in version {version} of its format, expected 1.0")
    try:
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"an array whose header is damaged ({error})") from error
    body = content[stream.tell() :]
    if dtype.kind not in "fiub" or min((0, *shape)) < 0 or len(body) != _nbytes(shape, dtype):
        raise ValueError(f"an array of {len(body)} bytes, expected {shape} of {dtype}")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if by_columns else "C").copy()


def _nbytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    nbytes = dtype.itemsize
    for side in shape:
        nbytes *= side
    return nbytes
