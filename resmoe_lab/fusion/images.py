"""Labelled images: MNIST and a sample of CIFAR-10, and their split between networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .._core.datasets import find_data
from .._core.errors import DataError, UsageError
from .._core.idx import read_idx

#: Mean and standard deviation of the training images, as used for the published networks.
_MNIST_SCALE = (0.1307, 0.3081)
_CIFAR_SCALE = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_CIFAR_PARTS = {"train": (0, 1, 2), "test": (50,)}


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images.

    Attributes
    ----------
    inputs
        (n, channels, h, w) float32, normalized.
    labels
        (n,) int64.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> Images:
        """Return a subset, by index or mask."""
        return Images(self.inputs[rows], self.labels[rows])

    def sample(self, count: int, *, seed: int = 0) -> Tensor:
        """Draw the inputs of `count` images without replacement.

        Raises
        ------
        UsageError
            If `count` is not between 1 and the number of images.
        """
        if not 0 < count <= len(self):
            raise UsageError(
                f"{count} samples are requested, expected from 1 to {len(self)}, as many as there are images"
            )
        return self.inputs[torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:count]]


def mnist(part: str = "test", *, data_dir: str | Path | None = None) -> Images:
    """Read MNIST.

    Parameters
    ----------
    part
        ``"train"`` (60,000 images) or ``"test"`` (10,000).
    data_dir
        Searched first, see :func:`~resmoe_lab._core.datasets.find_data`.

    Returns
    -------
    Images
        Inputs (n, 1, 28, 28).

    Raises
    ------
    DataError
        If the files are not found or are damaged.
    UsageError
        If `part` is unknown.

    Examples
    --------
    >>> mnist("test").inputs.shape  # doctest: +SKIP
    torch.Size([10000, 1, 28, 28])
    """
    stem = {"train": "train", "test": "t10k"}.get(part)
    if stem is None:
        raise UsageError(f"part is {part!r}, expected 'train' or 'test'")
    images = read_idx(find_data(f"mnist/{stem}-images-idx3-ubyte.gz", data_dir=data_dir), axes=3)
    labels = read_idx(find_data(f"mnist/{stem}-labels-idx1-ubyte.gz", data_dir=data_dir), axes=1)
    if len(images) != len(labels):
        raise DataError(
            f"MNIST's {part} part has {len(images)} images and {len(labels)} labels, expected equal numbers"
        )
    mean, deviation = _MNIST_SCALE
    inputs = (torch.from_numpy(images).float().div_(255) - mean) / deviation
    return Images(inputs[:, None], torch.from_numpy(labels).long())


def cifar10_sample(part: str = "test", *, data_dir: str | Path | None = None) -> Images:
    """Read the sample of CIFAR-10: 3,000 training and 1,000 test images.

    Parameters
    ----------
    part
        ``"train"`` or ``"test"``.
    data_dir
        Searched first, see :func:`~resmoe_lab._core.datasets.find_data`.

    Returns
    -------
    Images
        Inputs (n, 3, 32, 32).

    Raises
    ------
    DataError
        If the files are not found.
    UsageError
        If `part` is unknown.

    Examples
    --------
    >>> cifar10_sample("test").inputs.shape  # doctest: +SKIP
    torch.Size([1000, 3, 32, 32])
    """
    from PIL import Image

    if part not in _CIFAR_PARTS:
        raise UsageError(f"part is {part!r}, expected 'train' or 'test'")
    pixels, labels = [], []
    for batch in _CIFAR_PARTS[part]:
        with Image.open(find_data(f"cifar10_sample/cifar10_batch_{batch}.png", data_dir=data_dir)) as picture:
            pixels.append(np.asarray(picture.convert("RGB")).reshape(-1, 32, 32, 3))
        text = find_data(f"cifar10_sample/cifar10_labels_{batch}.txt", data_dir=data_dir).read_text("utf-8")
        labels += [int(line) for line in text.split()]
    mean, deviation = torch.tensor(_CIFAR_SCALE)
    inputs = (torch.from_numpy(np.concatenate(pixels)).float().div_(255) - mean) / deviation
    return Images(inputs.permute(0, 3, 1, 2).contiguous(), torch.tensor(labels))


def skill_split(
    images: Images, shares: Sequence[float] = (0.1, 0.9), *, digit: int | None = 4, seed: int = 0
) -> list[Images]:
    """Split images between networks so that only the first network gets one of the classes.

    Parameters
    ----------
    images
        The images.
    shares
        Fraction of the other classes that each network gets; they sum to one.
    digit
        The class of the first network only; None splits all classes alike.
    seed
        Seed of the random split.

    Returns
    -------
    list of Images
        One part for each network.

    Raises
    ------
    UsageError
        If the shares do not sum to one or there is no such class.

    References
    ----------
    Model Fusion via Optimal Transport, section 5.1.

    Examples
    --------
    >>> images = Images(torch.zeros(100, 1), torch.arange(100) % 10)
    >>> [len(part) for part in skill_split(images, (0.1, 0.9), digit=4)]
    [19, 81]
    """
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise UsageError(f"shares are {list(shares)}, expected positive numbers that sum to 1")
    special = images.labels == digit if digit is not None else torch.zeros(len(images), dtype=torch.bool)
    if digit is not None and not bool(special.any()):
        raise UsageError(f"digit is {digit}, expected one of {images.labels.unique().tolist()}")
    others = (~special).nonzero()[:, 0]
    order = others[torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))]
    ends = [round(len(order) * sum(shares[:index])) for index in range(len(shares) + 1)]
    parts = [order[start:stop] for start, stop in pairwise(ends)]
    parts[0] = torch.cat([parts[0], special.nonzero()[:, 0]])
    return [images.take(part) for part in parts]
