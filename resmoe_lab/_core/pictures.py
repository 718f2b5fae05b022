"""Reading of pictures that anybody may have made: RGB values, or one line that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .errors import DataError

#: Files and pictures up to this size are read: photographs are smaller, and what is larger is no data set's.
MOST_BYTES, MOST_PIXELS = 1 << 25, 1 << 25
_FORMATS = ("JPEG", "PNG")


def read_square(path: Path, side: int) -> np.ndarray:
    """Return the middle square of a picture as (side, side, 3) float32 values in [0, 1].

    Parameters
    ----------
    path
        A JPEG or PNG file.
    side
        Pixels of the result, to which the square is averaged down.

    Raises
    ------
    DataError
        If it cannot be read, is damaged, or is larger than 32 MiB or 33 million pixels.
    """
    from PIL import Image

    def middle(picture: Any) -> Any:
        width, height = picture.size
        edge = min(width, height)
        left, top = (width - edge) / 2, (height - edge) / 2
        return picture.resize((side, side), Image.Resampling.BOX, box=(left, top, left + edge, top + edge))

    return _read(path, middle).astype(np.float32) / 255


def read_pixels(path: Path) -> np.ndarray:
    """Return a picture's (height, width, 3) bytes.

    Raises
    ------
    DataError
        As :func:`read_square`.
    """
    return _read(path, lambda picture: picture)


def _read(path: Path, cut: Callable[[Any], Any]) -> np.ndarray:
    """Bytes of what is cut out of a picture."""
    from PIL import Image

    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise DataError(f"picture {path} has {size:,} bytes, expected at most {MOST_BYTES:,}: leave it out")
        with Image.open(path, formats=_FORMATS) as picture:
            width, height = picture.size
            if width * height > MOST_PIXELS:  # told by the header: nothing has been unpacked
                raise DataError(
                    f"picture {path} has {width} x {height} pixels, expected at most {MOST_PIXELS:,} of them"
                )
            return np.asarray(cut(picture.convert("RGB")))
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"picture {path} cannot be read ({reason}): repair it, or leave it out") from error
