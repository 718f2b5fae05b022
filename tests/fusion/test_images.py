from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from resmoe_lab._core.errors import DataError, UsageError
from resmoe_lab.fusion import Images, cifar10_sample, mnist, skill_split

from ..conftest import data_or_skip


def write_mnist(folder: Path, count: int = 40, seed: int = 0) -> Path:
    """A small MNIST of noise with a bright row that tells the label, in both parts; returns `folder`."""
    random = np.random.default_rng(seed)
    (folder / "mnist").mkdir(parents=True, exist_ok=True)
    for stem in ("train", "t10k"):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = random.integers(0, 60, (count, 28, 28), np.uint8)
        images[np.arange(count), 2 * labels + 4] = 255
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            head = np.array([2048 + values.ndim, *values.shape], ">i4").tobytes()
            (folder / "mnist" / f"{stem}-{name}-ubyte.gz").write_bytes(gzip.compress(head + values.tobytes()))
    return folder


def test_mnist_is_read_and_normalised(tmp_path: Path) -> None:
    images = mnist("train", data_dir=write_mnist(tmp_path))
    assert images.inputs.shape == (40, 1, 28, 28)
    assert images.labels[:12].tolist() == [*range(10), 0, 1]
    assert float(images.inputs[3, 0, 10].min()) == pytest.approx((1 - 0.1307) / 0.3081, rel=1e-5)


def test_the_published_mnist(digits: Images) -> None:
    assert digits.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_the_sample_of_cifar() -> None:
    data_or_skip("cifar10_sample/cifar10_batch_50.png")
    images = cifar10_sample("test")
    assert images.inputs.shape == (1000, 3, 32, 32)
    assert images.inputs.mean((0, 2, 3)).abs().max() < 0.1
    assert set(images.labels.tolist()) == set(range(10))


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"short", mtime=0), gzip.compress(bytes(400), mtime=0)])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    (write_mnist(tmp_path) / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match="idx file"):
        mnist("test", data_dir=tmp_path)


def test_labels_that_are_not_those_of_the_images(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path) / "mnist"
    few = write_mnist(tmp_path / "few", count=30) / "mnist"
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes((few / "t10k-labels-idx1-ubyte.gz").read_bytes())
    with pytest.raises(DataError, match="40 images and 30 labels"):
        mnist("test", data_dir=tmp_path)


def test_only_the_first_sees_the_special_digit() -> None:
    images = Images(torch.arange(1000.0)[:, None], torch.arange(1000) % 10)
    parts = skill_split(images, (0.1, 0.3, 0.6), digit=4)
    assert [len(part) for part in parts] == [190, 270, 540]
    assert (parts[0].labels == 4).sum() == 100
    assert all((part.labels != 4).all() for part in parts[1:])
    everything = torch.cat([part.inputs[:, 0] for part in parts])
    assert torch.equal(everything.sort().values, torch.arange(1000.0))
    assert [len(part) for part in skill_split(images, (0.3, 0.7), digit=None)] == [300, 700]
    again = skill_split(images, (0.1, 0.3, 0.6), digit=4, seed=1)
    assert not torch.equal(again[1].inputs, parts[1].inputs)


def test_bad_choices_are_named() -> None:
    images = Images(torch.zeros(10, 1), torch.arange(10))
    with pytest.raises(UsageError, match="digit is 12"):
        skill_split(images, digit=12)
    with pytest.raises(UsageError, match="sum to 1"):
        skill_split(images, (0.5, 0.6))
    with pytest.raises(UsageError, match="0 samples are requested"):
        images.sample(0)
    for load in (mnist, cifar10_sample):
        with pytest.raises(UsageError, match="part is 'dev'"):
            load("dev")
