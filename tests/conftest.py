"""What tests of several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from resmoe_lab import zoo
from resmoe_lab._core.datasets import find_data
from resmoe_lab._core.errors import DataError
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.experts import Block, ExpertStack

from .experts import pico

# Speed is measured in benchmarks; a busy machine is no failed test.
settings.register_profile("resmoe", deadline=None)
settings.load_profile("resmoe")


@pytest.fixture
def pico_folder(tmp_path: Path) -> Path:
    """A fresh pico Mixtral on disk, free to be damaged."""
    return pico.save(pico.mixtral(), tmp_path / "pico")


@pytest.fixture
def pico_checkpoint(pico_folder: Path) -> Checkpoint:
    return open_checkpoint(pico_folder)


@pytest.fixture(scope="session")
def tiny() -> Checkpoint:
    """The embedded model, which every checkout has."""
    assert zoo.is_built("mixtral-tiny"), "data/zoo/mixtral-tiny is missing: run 'resmoe-lab zoo build mixtral-tiny'"
    return open_checkpoint("mixtral-tiny")


@pytest.fixture
def random_stack() -> ExpertStack:
    """Five unrelated experts of seven neurons in three blocks of four columns."""
    weights = torch.randn(5, 7, 12, generator=torch.Generator().manual_seed(0))
    blocks = tuple(Block(name, 4 * i, 4 * i + 4) for i, name in enumerate(("w1", "w3", "w2")))
    return ExpertStack(weights, blocks, layer=3)


def data_or_skip(name: str) -> Path:
    """A data set's path, or a skip that says where it was looked for."""
    try:
        return find_data(name)
    except DataError as error:
        pytest.skip(str(error))
