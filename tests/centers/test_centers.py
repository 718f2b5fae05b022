"""Centers against independent computations: every permutation tried, and POT's own barycenter."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from resmoe_lab._core.errors import UsageError
from resmoe_lab.centers import CENTERS, _alignment, find_center
from resmoe_lab.centers._alignment import match_rows
from resmoe_lab.experts import Block, ExpertStack
from resmoe_lab.methods import compress_layer, storage_ledger
from resmoe_lab.store import EXACT_STORAGE

from ..methods.calibrated import statistics


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
        center = find_center(stack, solver="coordinate")
        best = _best_by_trying_all(stack.weights.double().numpy())
        assert center.certificate is not None
        assert center.certificate.lower_bound <= best * (1 + 1e-6)
        assert best <= center.objective * (1 + 1e-6)
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
    center = find_center(random_stack, center=name, statistics=statistics(5, 7, 4))
    assert center.name == name
    aligned = np.stack(
        [weights[order] for weights, order in zip(random_stack.weights.double(), center.permutations, strict=True)]
    )
    centers = np.stack([center.expert(k).double().numpy() for k in range(random_stack.num_experts)])
    spread = ((aligned - centers) ** 2).sum() / random_stack.num_experts
    assert center.objective == pytest.approx(spread, rel=1e-5)
    for order in center.permutations:
        assert sorted(order.tolist()) == list(range(random_stack.intermediate_size))
    residuals = torch.stack(list(center.residuals(random_stack)))
    torch.testing.assert_close(residuals, torch.from_numpy(aligned - centers).float(), atol=1e-5, rtol=1e-5)


def test_shuffled_copies_have_a_center_without_residual() -> None:
    base = torch.randn(9, 6, generator=torch.Generator().manual_seed(1))
    copies = torch.stack([base[torch.randperm(9, generator=torch.Generator().manual_seed(k))] for k in range(4)])
    center = find_center(ExpertStack(copies, (), layer=0))
    assert center.objective == pytest.approx(0.0, abs=1e-9)
    average = find_center(ExpertStack(copies, (), layer=0), center="average")
    assert average.objective > 1.0


def test_an_unknown_center_suggests_similar(random_stack: ExpertStack) -> None:
    with pytest.raises(UsageError, match="did you mean wasserstein"):
        find_center(random_stack, center="waserstein")


def test_nothing_is_nearer_with_the_paper_s_own_solver() -> None:
    """The choice of solver reaches the center: the coordinate search never ends above the alternating one."""
    for seed in range(3):
        stack = _stack(4, 12, 5, seed=seed)
        alternating = find_center(stack, solver="alternating")
        assert alternating.solver == "alternating"
        assert find_center(stack, solver="coordinate").objective <= alternating.objective * (1 + 1e-6)


def test_git_rebasin_ends_where_no_single_expert_can_improve() -> None:
    """MergeMany's fixed point: each expert is matched best with the mean of the others, by scipy's own solver."""
    stack = _stack(4, 9, 5, seed=2)
    center = find_center(stack, center="git-rebasin")
    aligned = np.stack([w[o].double().numpy() for w, o in zip(stack.weights, center.permutations, strict=True)])
    for k in range(4):
        others = aligned.sum(0) - aligned[k]
        products = others @ stack.weights[k].double().numpy().T
        rows, columns = linear_sum_assignment(products, maximize=True)
        assert (others * aligned[k]).sum() == pytest.approx(products[rows, columns].sum(), rel=1e-5)
    assert center.objective < find_center(stack, center="average").objective


def test_git_rebasin_without_memory_for_its_costs_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = _stack(5, 60, 8, seed=3)
    kept = find_center(stack, center="git-rebasin").permutations
    monkeypatch.setattr(_alignment, "available_bytes", lambda: 0)
    assert torch.equal(find_center(stack, center="git-rebasin").permutations, kept)


def test_git_rebasin_takes_its_order_from_the_seed() -> None:
    stack = _stack(5, 30, 4, seed=1)
    orders = [find_center(stack, center="git-rebasin", seed=seed).permutations for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


def _moved_copies() -> ExpertStack:
    """Copies of one expert whose neurons and whose outputs stand in other orders."""
    generator = torch.Generator().manual_seed(4)
    base = torch.randn(9, 10, generator=generator)
    copies = []
    for _ in range(4):
        neurons, outputs = torch.randperm(9, generator=generator), torch.randperm(5, generator=generator)
        copies.append(torch.cat([base[neurons, :5], base[neurons, 5:][:, outputs]], dim=1))
    return ExpertStack(torch.stack(copies), (Block("w1", 0, 5), Block("w2", 5, 10)), layer=0)


def test_ot_fusion_follows_neurons_and_outputs() -> None:
    """Appendix B.2: (T2)^T E: outputs in another order cost OT Fusion nothing, and a barycenter much."""
    stack = _moved_copies()
    center = find_center(stack, center="ot-fusion")
    assert center.objective == pytest.approx(0.0, abs=1e-9)
    assert find_center(stack).objective > 1.0
    layer = compress_layer(stack, method="resmoe-up", keep=0.1, center=center, storage=EXACT_STORAGE)
    for k, restored in enumerate(layer.restore()):
        torch.testing.assert_close(restored, stack.weights[k][center.permutations[k]], atol=1e-5, rtol=1e-5)
    assert [entry.nbytes for entry in storage_ledger(layer).entries if entry.item == "outputs"] == [4 * 5 * 2]


def test_outputs_that_stay_are_not_stored() -> None:
    base = torch.randn(9, 10, generator=torch.Generator().manual_seed(1))
    weights = base + 0.01 * torch.randn(3, 9, 10, generator=torch.Generator().manual_seed(2))
    stack = ExpertStack(weights, (Block("w1", 0, 5), Block("w2", 5, 10)), layer=0)
    assert find_center(stack, center="ot-fusion").outputs is None


@pytest.mark.parametrize("pair", [("resmoe-up", "up"), ("resmoe-svd", "svd")])
def test_without_a_center_a_residual_method_is_the_plain_one(pair: tuple[str, str], random_stack: ExpertStack) -> None:
    none = find_center(random_stack, center="none")
    residual, plain = (compress_layer(random_stack, method=name, keep=0.5, center=none) for name in pair)
    assert residual.center_name == "none"
    torch.testing.assert_close(residual.restore(), plain.restore())
    assert storage_ledger(residual) == storage_ledger(plain)


def test_weights_pull_the_center() -> None:
    """With nearly all weight on one expert the center is that expert; equal weights give the plain barycenter."""
    stack = _stack(3, 6, 4)
    given = statistics(3, 6, 2)
    one = torch.tensor([1e-9, 1.0, 1e-9], dtype=torch.float64)
    pulled = find_center(stack, center="wasserstein-usage", statistics=replace(given, usage=one))
    torch.testing.assert_close(pulled.matrix, stack.weights[1][pulled.permutations[1]], atol=1e-5, rtol=1e-5)
    even = find_center(stack, center="wasserstein-fisher", statistics=replace(given, fisher=torch.ones(3)))
    assert even.objective == pytest.approx(find_center(stack).objective, rel=1e-6)


def test_a_weighted_center_asks_for_what_it_weighs_by(random_stack: ExpertStack) -> None:
    with pytest.raises(UsageError, match="needs calibration statistics"):
        find_center(random_stack, center="wasserstein-usage")
    with pytest.raises(UsageError, match="needs Fisher information"):
        find_center(random_stack, center="wasserstein-fisher", statistics=replace(statistics(5, 7, 4), fisher=None))


def _stretched() -> ExpertStack:
    """One cloud, stretched and moved along the axes by every expert in another way, its neurons in another order."""
    generator = torch.Generator().manual_seed(5)
    base = torch.randn(96, 6, generator=generator)
    scales = torch.exp(0.5 * torch.randn(3, 1, 6, generator=generator))
    moved = scales * base + torch.randn(3, 1, 6, generator=generator)
    return ExpertStack(torch.stack([cloud[torch.randperm(96, generator=generator)] for cloud in moved]), (), layer=0)


def test_points_of_the_learnt_barycenter_are_near_the_best_and_never_better() -> None:
    """Stretching by positive factors is optimal transport: the barycenter is the cloud at the mean of the factors."""
    stack = _stretched()
    sampled, exact = find_center(stack, center="sampled", directions=6), find_center(stack)
    one = stack.weights[0]
    alone = sum(float(((weights[match_rows(one, weights)] - one) ** 2).sum()) for weights in stack.weights) / 3
    assert exact.certificate is not None
    assert exact.certificate.lower_bound <= exact.objective <= sampled.objective
    assert sampled.objective < min(1.02 * exact.objective, 0.8 * alone)


def test_a_learnt_barycenter_is_decided_by_its_seed(random_stack: ExpertStack) -> None:
    centers = [find_center(random_stack, center="sampled", seed=seed, steps=5) for seed in (0, 0, 1)]
    assert torch.equal(centers[0].matrix, centers[1].matrix)
    assert torch.equal(centers[0].permutations, centers[1].permutations)
    assert not torch.equal(centers[0].matrix, centers[2].matrix)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"directions": 0}, "directions is 0"),
        ({"steps": 0}, "must be positive"),
        ({"solver": "cdwb"}, "cdwb has no maps from the experts"),
        ({"solver": "nwbb"}, "unknown barycenter solver"),
        ({"breadth": 3}, "cwb has no such settings"),
    ],
)
def test_a_learnt_barycenter_refuses_wrong_settings(
    wrong: dict[str, object], words: str, random_stack: ExpertStack
) -> None:
    with pytest.raises(UsageError, match=words):
        find_center(random_stack, center="sampled", **wrong)
