"""CelebA's faces from a folder as it was published."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .._core.errors import DataError
from .._core.pictures import read_square

#: The folder of pictures, and the file that tells which part each belongs to, as published.
IMAGES, PARTS = "img_align_celeba", "list_eval_partition.txt"
_NUMBERS = {"train": "0", "validation": "1", "test": "2"}
_SUFFIXES = (".jpg", ".jpeg", ".png")


def faces(folder: str | Path, part: str = "train", *, side: int, count: int) -> Tensor:
    """Read faces in the order of their names.

    Parameters
    ----------
    folder
        Where ``img_align_celeba/*.jpg`` and ``list_eval_partition.txt`` lie.
    part
        ``"train"``, ``"validation"`` or ``"test"``.
    side
        Pixels of a side, to which the middle square of each picture is averaged.
    count
        How many are read at most.

    Returns
    -------
    Tensor
        (n, 3 * side * side) float32 values in [0, 1]: rows, columns, colours.

    Raises
    ------
    DataError
        If the folder, its pictures or its list are missing, or one of them cannot be read.

    Examples
    --------
    >>> faces("celeba", "test", side=16, count=100).shape  # doctest: +SKIP
    torch.Size([100, 768])
    """
    folder = Path(folder)
    pictures = folder / IMAGES
    if not pictures.is_dir():
        raise DataError(f"{folder} holds no folder {IMAGES}, expected CelebA as published: {IMAGES}/*.jpg and {PARTS}")
    there = {path.name: path for path in sorted(pictures.iterdir()) if path.suffix.lower() in _SUFFIXES}
    if not there:
        raise DataError(f"{pictures} holds no pictures, expected *.jpg: unpack CelebA's aligned images there")
    numbers = _parts(folder / PARTS)
    if unlisted := [name for name in there if name not in numbers]:
        raise DataError(f"{unlisted[0]} is not in {folder / PARTS}, expected its part: 0 train, 1 validation, 2 test")
    chosen = (path for name, path in there.items() if numbers[name] == _NUMBERS[part])
    rows = [read_square(path, side).ravel() for path in islice(chosen, count)]
    if len(rows) < 2:
        raise DataError(f"{folder / PARTS} tells of {len(rows)} pictures for {part} in {pictures}, expected at least 2")
    return torch.from_numpy(np.stack(rows))


def _parts(path: Path) -> dict[str, str]:
    """File name -> the number of its part."""
    try:
        lines = [line.split() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): it tells which pictures are for training") from error
    for number, line in enumerate(lines, start=1):
        if len(line) != 2 or line[1] not in _NUMBERS.values():
            raise DataError(f"line {number} of {path} is {' '.join(line)[:80]!r}, expected a file's name and 0, 1 or 2")
    return {line[0]: line[1] for line in lines}
