"""The common expert against independent computations: every permutation tried, and POT's own barycenter."""

from itertools import permutations, product

import numpy as np
import ot
import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.centers import CENTERS, find_center
from resmoe_lab.experts import ExpertStack


def _stack(num_experts: int, neurons: int, width: int, *, seed: int = 0) -> ExpertStack:
    weights = torch.randn(num_experts, neurons, width, generator=torch.Generator().manual_seed(seed))
    return ExpertStack(weights, (), layer=0)


def _best_by_trying_all(weights: np.ndarray) -> float:
    """The least objective over all joint permutations (the first expert may stay as it is)."""
    count, neurons, _ = weights.shape
    orders = [list(order) for order in permutations(range(neurons))]
    best = np.inf
    for choice in product(orders, repeat=count - 1):
        aligned = np.stack([weights[0], *(weights[k + 1][order] for k, order in enumerate(choice))])
        best = min(best, float(((aligned - aligned.mean(0)) ** 2).sum() / count))
    return best


def test_the_center_of_a_few_neurons_is_the_best_there_is() -> None:
    """p_I = 4, three experts: all 13,824 joint permutations."""
    for seed in range(3):
        stack = _stack(3, 4, 5, seed=seed)
        common = find_center(stack, solver="coordinate")
        best = _best_by_trying_all(stack.weights.double().numpy())
        assert common.certificate is not None
        assert common.certificate.lower_bound <= best * (1 + 1e-6)
        assert best <= common.objective * (1 + 1e-6)
        # Descent may stop in a local minimum; from all starts together it does not, at this size.
        starts = [find_center(stack, start=q).objective for q in range(3)]
        assert min(starts) == pytest.approx(best, rel=1e-5)


def test_two_experts_of_six_neurons_are_solved_exactly() -> None:
    """With two experts the problem is one assignment: 720 permutations."""
    stack = _stack(2, 6, 3)
    assert find_center(stack).objective == pytest.approx(_best_by_trying_all(stack.weights.double().numpy()), rel=1e-5)


def test_never_above_the_published_call() -> None:
    """``ot.lp.free_support_barycenter`` started at expert 0, as the published code calls it."""
    for seed in range(5):
        stack = _stack(4, 20, 6, seed=seed)
        clouds = [cloud.double().numpy() for cloud in stack.weights]
        uniform = np.full(20, 1 / 20)
        support = ot.lp.free_support_barycenter(clouds, [uniform] * 4, clouds[0], numItermax=100, stopThr=1e-7)
        costs = [ot.emd2(uniform, uniform, ot.dist(cloud, support)) * 20 for cloud in clouds]
        published = float(np.mean(costs))
        alternating = find_center(stack, solver="alternating")
        assert alternating.objective == pytest.approx(published, rel=1e-4)
        assert find_center(stack).objective <= published * (1 + 1e-6)


@pytest.mark.parametrize("name", CENTERS.names())
def test_objective_permutations_and_center_belong_together(name: str, random_stack: ExpertStack) -> None:
    common = find_center(random_stack, center=name)
    assert common.name == name
    aligned = np.stack(
        [weights[order] for weights, order in zip(random_stack.weights.double(), common.permutations, strict=True)]
    )
    spread = ((aligned - common.center.double().numpy()) ** 2).sum() / random_stack.num_experts
    assert common.objective == pytest.approx(spread, rel=1e-5)
    for order in common.permutations:
        assert sorted(order.tolist()) == list(range(random_stack.intermediate_size))
    residuals = torch.stack(list(common.residuals(random_stack)))
    torch.testing.assert_close(residuals, torch.from_numpy(aligned).float() - common.center, atol=1e-5, rtol=1e-5)


def test_shuffled_copies_have_a_center_without_residual() -> None:
    base = torch.randn(9, 6, generator=torch.Generator().manual_seed(1))
    copies = torch.stack([base[torch.randperm(9, generator=torch.Generator().manual_seed(k))] for k in range(4)])
    common = find_center(ExpertStack(copies, (), layer=0))
    assert common.objective == pytest.approx(0.0, abs=1e-9)
    average = find_center(ExpertStack(copies, (), layer=0), center="average")
    assert average.objective > 1.0


def test_an_unknown_center_suggests_similar(random_stack: ExpertStack) -> None:
    with pytest.raises(UsageError, match="did you mean wasserstein"):
        find_center(random_stack, center="waserstein")
