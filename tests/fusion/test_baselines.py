from __future__ import annotations

import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.fusion import Ensemble, vanilla_average

from .networks import mlp


def test_the_plain_average_is_one_of_tensors_and_the_ensemble_one_of_outputs() -> None:
    networks, inputs = [mlp(seed=seed) for seed in range(3)], torch.randn(4, 12)
    weights = [0.5, 0.3, 0.2]
    mean = vanilla_average(networks, weights=weights)
    expected = sum(w * n.fc2.weight for w, n in zip(weights, networks, strict=True))
    torch.testing.assert_close(mean.fc2.weight, expected)
    outputs = sum(w * n(inputs) for w, n in zip(weights, networks, strict=True))
    torch.testing.assert_close(Ensemble(networks, weights=weights)(inputs), outputs)
    assert networks[0].fc2.weight.data_ptr() != mean.fc2.weight.data_ptr()


def test_widths_that_differ_cannot_be_averaged_plainly() -> None:
    with pytest.raises(UsageError, match=r"network 1 differs from network 0 in shape at 'fc1\.weight'"):
        vanilla_average([mlp(), mlp((12, 18, 7, 4))])
    with pytest.raises(UsageError, match="sum to 2"):
        vanilla_average([mlp(), mlp()], weights=[1, 1])
