"""The idx format in which MNIST was published: an array of bytes behind a short header, compressed."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from .errors import DataError

#: Two zeros, the format's code of unsigned bytes, and the number of axes.
_BYTES = 8 << 8


def read_idx(path: Path, *, axes: int) -> np.ndarray:
    """Read a compressed idx file of bytes.

    Parameters
    ----------
    path
        The file.
    axes
        How many axes its array has.

    Raises
    ------
    DataError
        If it is no such file, or damaged.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise DataError(f"{path} is no gzip file ({error}), expected an idx file: fetch it again") from error
    numbers = np.frombuffer(content, ">i4", min(len(content) // 4, 1 + axes))
    shape = tuple(numbers[1:])
    values = np.frombuffer(content, np.uint8, offset=numbers.nbytes)
    if not len(numbers) or numbers[0] != _BYTES + axes or values.size != np.prod(shape):
        raise DataError(f"{path} is damaged, expected an idx file of {axes} axes: fetch it again")
    return values.reshape(shape).copy()


def idx_bytes(values: np.ndarray) -> bytes:
    """Return an array of bytes as a compressed idx file."""
    head = np.array([_BYTES + values.ndim, *values.shape], ">i4")
    return gzip.compress(head.tobytes() + values.tobytes(), mtime=0)
