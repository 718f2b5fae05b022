"""The published networks and MNIST, where they are."""

from __future__ import annotations

import pytest
from torch import nn

from resmoe_lab.fusion import Images, load_mlpnet, mnist

from ..conftest import data_or_skip


@pytest.fixture(scope="session")
def published() -> list[nn.Module]:
    """The two MLPNets of the paper's code."""
    return [load_mlpnet(data_or_skip(f"otfusion_mnist_models/model_{index}/final.checkpoint")) for index in (0, 1)]


@pytest.fixture(scope="session")
def digits() -> Images:
    data_or_skip("mnist/t10k-images-idx3-ubyte.gz")
    return mnist("test")


@pytest.fixture(scope="session")
def training_digits() -> Images:
    data_or_skip("mnist/train-images-idx3-ubyte.gz")
    return mnist("train")
