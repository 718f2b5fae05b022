"""The idx format of MNIST: a gzip-compressed array of bytes after a short header."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from .errors import DataError

#: The magic number of unsigned bytes, to which the number of axes is added.
_UINT8_MAGIC = 8 << 8


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
        If it is not an idx file, or damaged.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise DataError(f"{path} is no gzip file ({error}), expected an idx file: fetch it again") from error
    numbers = np.frombuffer(content, ">i4", min(len(content) // 4, 1 + axes))
    shape = tuple(numbers[1:])
    values = np.frombuffer(content, np.uint8, offset=numbers.nbytes)
    if not len(numbers) or numbers[0] != _UINT8_MAGIC + axes or values.size != np.prod(shape):
        raise DataError(f"{path} is damaged, expected an idx file of {axes} axes: fetch it again")
    return values.reshape(shape).copy()


def idx_bytes(values: np.ndarray) -> bytes:
    """Encode a uint8 array as a compressed idx file."""
    header = np.array([_UINT8_MAGIC + values.ndim, *values.shape], ">i4")
    return gzip.compress(header.tobytes() + values.tobytes(), mtime=0)
