"""Spectra, tail exponents and distances of experts, against loops over their definitions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from resmoe_lab.analysis.spectra import expert_distances, expert_spectra, sharing_tree, tail_exponent
from resmoe_lab.centers import find_center
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.experts import Block, ExpertStack, load_stack


@pytest.fixture(scope="module")
def stack(tiny: Checkpoint) -> ExpertStack:
    return load_stack(tiny, layer=2)


def _hill(eigenvalues: list[float]) -> float:
    """The definition, with its indices from one."""
    n = len(eigenvalues)
    k = n // 2
    total = 0.0
    for i in range(1, k + 1):
        total += math.log(eigenvalues[n - i + 1 - 1] / eigenvalues[n - k - 1])
    return 1 + k / total


def test_singular_values_are_numpys(stack: ExpertStack) -> None:
    spectra = expert_spectra(stack)
    assert set(spectra.exponents["part"]) == {"w1", "w3", "w2"}
    for block in stack.blocks:
        for expert in (0, 5):
            matrix = stack.weights[expert][:, block.start : block.stop].double().numpy()
            expected = np.linalg.svd(matrix, compute_uv=False)
            rows = spectra.values[(spectra.values["expert"] == expert) & (spectra.values["part"] == block.name)]
            assert rows["rank"].iloc[[0, -1]].tolist() == [1, len(expected)]
            assert rows["singular_value"].to_numpy() == pytest.approx(expected[rows["rank"].to_numpy() - 1], rel=1e-5)
            row = spectra.exponents[(spectra.exponents["expert"] == expert) & (spectra.exponents["part"] == block.name)]
            assert row["exponent"].item() == pytest.approx(_hill(sorted((expected**2).tolist())), rel=1e-5)


def test_the_exponent_of_a_power_law_is_found() -> None:
    """Draws from a density that falls as x^-alpha."""
    for alpha in (2.0, 3.5):
        draws = np.sort((1 - np.random.default_rng(0).random(40_000)) ** (-1 / (alpha - 1)))
        assert tail_exponent(draws) == pytest.approx(alpha, rel=0.03)
        assert tail_exponent(draws) == pytest.approx(_hill(draws.tolist()))


def test_a_spectrum_without_a_tail_has_no_exponent() -> None:
    for flat in ([2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 1.0], [1.0], []):
        assert math.isnan(tail_exponent(np.array(flat)))


def test_distances_are_those_of_the_aligned_experts(stack: ExpertStack) -> None:
    center = find_center(stack)
    distances = expert_distances(stack, center)
    aligned = [stack.weights[k][center.permutations[k]].double() for k in range(stack.num_experts)]
    for i, one in enumerate(aligned):
        for j, other in enumerate(aligned):
            scale = math.sqrt((float(one.norm()) ** 2 + float(other.norm()) ** 2) / 2)
            assert distances[i, j] == pytest.approx(float((one - other).norm()) / scale, abs=1e-7)
    assert np.allclose(distances, distances.T)


def test_experts_of_two_families_are_two_groups() -> None:
    """Copies of two unrelated experts, with noise and shuffled neurons."""
    torch.manual_seed(0)
    first, second = torch.randn(2, 24, 12)
    rows = [first, second, first, second, first]
    shuffled = [(row + 0.1 * torch.randn_like(row))[torch.randperm(24)] for row in rows]
    layout = _layout()
    stack = replace(layout, weights=torch.stack(shuffled))
    tree = sharing_tree(expert_distances(stack, find_center(stack)))
    assert tree.groups == {0: 0, 1: 1, 2: 0, 3: 1, 4: 0}
    assert 1 < tree.links[-1, 2] < math.sqrt(2)
    assert tree.links[0, 2] < 0.3


def _layout() -> ExpertStack:
    blocks = (Block("w1", 0, 6), Block("w2", 6, 12))
    return ExpertStack(layer=0, weights=torch.zeros(5, 24, 12), blocks=blocks)


def test_the_tree_is_that_of_mean_distances() -> None:
    """A loop that joins the two nearest groups, and scipy's own."""
    rng = np.random.default_rng(3)
    points = rng.normal(size=(7, 4))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    heights, groups = [], [[k] for k in range(7)]
    while len(groups) > 1:
        pairs = [(i, j) for i in range(len(groups)) for j in range(i)]
        mean = {(i, j): np.mean([distances[a, b] for a in groups[i] for b in groups[j]]) for i, j in pairs}
        i, j = min(mean, key=lambda pair: mean[pair])
        heights.append(mean[i, j])
        groups[j] += groups.pop(i)
    tree = sharing_tree(distances)
    assert tree.links[:, 2] == pytest.approx(heights)
    assert np.allclose(tree.links, linkage(squareform(distances, checks=False), method="average"))


def test_equal_distances_make_one_group_and_one_expert_no_tree() -> None:
    assert sharing_tree(1 - np.eye(6)).groups == dict.fromkeys(range(6), 0)
    alone = sharing_tree(np.zeros((1, 1)))
    assert (alone.groups, alone.links.shape) == ({0: 0}, (0, 4))
