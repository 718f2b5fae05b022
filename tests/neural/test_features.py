"""The classifier knows digits that it has not seen, and its features keep them apart."""

from __future__ import annotations

import torch

from resmoe_lab.neural import precision_recall
from resmoe_lab.neural.decoders import all_digits, digits
from resmoe_lab.neural.features import FEATURES, digit_features

from ..conftest import data_or_skip


def test_digits_are_known_by_their_features() -> None:
    data_or_skip("mnist/train-images-idx3-ubyte.gz")
    model = digit_features()
    pictures, labels = all_digits("test")
    values = pictures.float() / 255
    assert model.accuracy(values, labels) > 0.95
    assert model(values[:5]).shape == (5, FEATURES)
    zeros, more, ones = digits(0)[:400], digits(0)[400:800], digits(1)[:400]
    alike, _ = precision_recall(model(zeros), model(more))
    other, _ = precision_recall(model(zeros), model(ones))
    assert alike > 0.7
    assert other < 0.1


def test_digits_are_mnists_pictures() -> None:
    data_or_skip("mnist/train-images-idx3-ubyte.gz")
    pictures, labels = all_digits("train")
    assert pictures.shape == (60_000, 784)
    assert torch.equal(digits(2, 3), pictures[(labels == 2) | (labels == 3)].float() / 255)
