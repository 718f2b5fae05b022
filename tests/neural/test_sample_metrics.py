"""Distances of samples equal loops over their definitions, and tell the truth where it is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.neural import kernel_mmd, precision_recall


def _cloud(count: int, seed: int, *, shift: float = 0.0, dimension: int = 2) -> torch.Tensor:
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed)) + shift


def test_the_discrepancy_is_its_definition() -> None:
    first, second = _cloud(9, 0).double(), _cloud(9, 1, shift=0.5).double()

    def kernel(one: torch.Tensor, other: torch.Tensor) -> float:
        return math.exp(-float((one - other).square().sum()) / (2 * 0.7**2))

    total = 0.0
    for i in range(9):
        for j in range(9):
            if i != j:
                total += kernel(first[i], first[j]) + kernel(second[i], second[j])
                total -= kernel(first[i], second[j]) + kernel(first[j], second[i])
    assert kernel_mmd(first, second, bandwidth=0.7).value == pytest.approx(total / 72)


def test_its_bandwidth_is_the_median_distance() -> None:
    first, second = _cloud(20, 0), _cloud(20, 1)
    both = torch.cat([first, second]).double().numpy()
    distances = [np.linalg.norm(both[i] - both[j]) for i in range(40) for j in range(i)]
    wide = kernel_mmd(first, second, bandwidth=float(np.median(distances)))
    assert kernel_mmd(first, second).value == pytest.approx(wide.value, rel=1e-2)


def _of_gaussians(shift: float, bandwidth: float) -> float:
    """Squared discrepancy of N(0, 1) and N(shift, 1): the kernel's mean over the difference of two draws, N(0, 2)."""

    def mean(distance: float) -> float:
        return bandwidth / math.sqrt(bandwidth**2 + 2) * math.exp(-(distance**2) / (2 * (bandwidth**2 + 2)))

    return 2 * mean(0) - 2 * mean(shift)


def test_it_is_without_bias_and_its_interval_holds_the_truth() -> None:
    truth = _of_gaussians(1.0, 1.0)
    found = [
        kernel_mmd(
            _cloud(60, 2 * seed, dimension=1),
            _cloud(60, 2 * seed + 1, shift=1.0, dimension=1),
            bandwidth=1.0,
            draws=200,
        )
        for seed in range(150)
    ]
    values = np.array([one.value for one in found])
    assert values.mean() == pytest.approx(truth, abs=3 * values.std() / math.sqrt(len(values)))
    assert np.mean([one.low <= truth <= one.high for one in found]) > 0.85


def test_of_one_distribution_it_is_about_zero_and_may_be_below() -> None:
    values = [kernel_mmd(_cloud(50, 2 * seed), _cloud(50, 2 * seed + 1), draws=10).value for seed in range(60)]
    assert min(values) < 0 < max(values)
    assert np.mean(values) == pytest.approx(0, abs=3 * np.std(values) / math.sqrt(60))


def test_precision_and_recall_are_their_definition() -> None:
    real, generated = _cloud(25, 0), _cloud(30, 1, shift=0.8)

    def share(points: torch.Tensor, among: torch.Tensor, k: int) -> float:
        inside = 0
        for point in points:
            for center in among:
                radius = sorted(float((other - center).norm()) for other in among)[k]
                if float((point - center).norm()) <= radius:
                    inside += 1
                    break
        return inside / len(points)

    found = precision_recall(real, generated, neighbours=2)
    assert found == pytest.approx((share(generated, real, 2), share(real, generated, 2)))
    assert 0 < found[0] < 1


def test_lost_modes_cost_recall_and_noise_costs_precision() -> None:
    left, right = _cloud(100, 0, shift=-10), _cloud(100, 1, shift=10)
    both = torch.cat([left, right])
    precision, recall = precision_recall(both, _cloud(100, 2, shift=-10))
    assert precision > 0.8
    assert recall == pytest.approx(0.5, abs=0.1)
    precision, _ = precision_recall(left, torch.cat([_cloud(50, 3, shift=-10), _cloud(50, 4, shift=50)]))
    assert precision == pytest.approx(0.5, abs=0.1)


def test_samples_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match=r"samples of shapes \(5, 2\) and \(4, 2\), expected one shape"):
        kernel_mmd(torch.zeros(5, 2), torch.zeros(4, 2))
    with pytest.raises(UsageError, match="3 and 9 points with 3 neighbours, expected more points than these"):
        precision_recall(torch.zeros(3, 2), torch.zeros(9, 2))
