"""The idx format of MNIST: a gzip-compressed array of bytes after a short header."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from .errors import DataError
from .parsing import MOST_BYTES, MOST_TIMES

#: The magic number of unsigned bytes, to which the number of axes is added.
_UINT8_MAGIC = 8 << 8
#: Bytes that are unpacked at once.
_BLOCK = 1 << 16


def read_idx(path: Path, *, axes: int) -> np.ndarray:
    """Read a compressed idx file of unsigned bytes.

    Parameters
    ----------
    path
        The file.
    axes
        Number of axes of its array.

    Returns
    -------
    numpy.ndarray
        uint8.

    Raises
    ------
    DataError
        If it is not an idx file, or damaged, or unpacks to far more than its size.
    """
    try:
        with gzip.open(path, "rb") as stream:
            magic, *shape = np.frombuffer(stream.read(4 * (1 + axes)), ">i4").tolist()
            size = math.prod(shape)
            if magic != _UINT8_MAGIC + axes or len(shape) != axes or min(shape) < 0:
                raise ValueError(f"its header is {[magic, *shape]}")
            if size > max(MOST_BYTES, MOST_TIMES * path.stat().st_size):
                raise ValueError(f"it claims {size:,} values")
            content = _read(stream, size)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}), expected an idx file of {axes} axes: fetch it again") from error
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


def _read(stream: gzip.GzipFile, size: int) -> bytes:
    """Read the rest of a stream, block by block: no more room is taken than there are bytes."""
    content = bytearray()
    while block := stream.read(_BLOCK):
        content += block
        if len(content) > size:
            break
    if len(content) != size:
        raise ValueError(f"it holds {'more' if len(content) > size else len(content)} values, expected {size}")
    return bytes(content)


def idx_bytes(values: np.ndarray) -> bytes:
    """Encode a uint8 array as a compressed idx file."""
    header = np.array([_UINT8_MAGIC + values.ndim, *values.shape], ">i4")
    return gzip.compress(header.tobytes() + values.tobytes(), mtime=0)
