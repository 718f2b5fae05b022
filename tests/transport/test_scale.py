"""Neither a common vector, nor a factor, nor what changes no distance changes a matching, an objective or a bound."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from resmoe_lab._core.errors import WeightError
from resmoe_lab.transport import assign, barycenter
from resmoe_lab.transport import assignment as assignment_module
from resmoe_lab.transport.rows import normalized

EXPERTS, NEURONS, WIDTH = 4, 24, 10


def layer(noise: float = 0.3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(NEURONS, WIDTH, generator=generator, dtype=torch.float64)
    experts = []
    for _ in range(EXPERTS):
        order = torch.randperm(NEURONS, generator=generator)
        experts.append(base[order] + noise * torch.randn(base.shape, generator=generator, dtype=torch.float64))
    return torch.stack(experts)


def rotated(stack: Tensor) -> Tensor:
    matrix = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return stack @ torch.linalg.qr(matrix).Q


def widened(stack: Tensor) -> Tensor:
    return torch.cat([stack, torch.full((*stack.shape[:2], 3), 7.0, dtype=stack.dtype)], dim=2)


#: What is done to a layer, and the factor by which its objective changes.
CHANGES: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "an offset of 30": (lambda stack: stack + 30, 1.0),
    "an offset of 3,000": (lambda stack: stack + 3000, 1.0),
    "a column at 1e4": (lambda stack: stack + torch.nn.functional.one_hot(torch.tensor(2), WIDTH) * 1e4, 1.0),
    "a vector of its own": (lambda stack: stack + 500 * torch.arange(WIDTH, dtype=stack.dtype), 1.0),
    "columns that are constant": (widened, 1.0),
    "a rotation": (rotated, 1.0),
    "another order": (lambda stack: stack[:, torch.randperm(NEURONS, generator=torch.Generator().manual_seed(2))], 1.0),
    **{f"a factor of {factor:g}": (lambda stack, f=factor: stack * f, factor**2) for factor in
       (1e-22, 1e-12, 1e-3, 1e6, 1e15, 1e18)},
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("solver", ["alternating", "coordinate"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_no_distance_changes_nothing(change: str, solver: str, dtype: torch.dtype) -> None:
    apply, factor = CHANGES[change]
    plain = barycenter(layer(), solver=solver)
    changed = barycenter(apply(layer()).to(dtype), solver=solver)
    # float32 rounds the weights themselves: at an offset of 3,000 by 1e-4 of a neuron's spread.
    tolerance = 1e-6 if dtype == torch.float64 else 2e-4
    assert changed.objective / factor == pytest.approx(plain.objective, rel=tolerance)
    assert changed.certificate.lower_bound / factor == pytest.approx(plain.certificate.lower_bound, rel=tolerance)
    assert changed.certificate.gap == pytest.approx(plain.certificate.gap, abs=1e-5)
    if change != "another order":
        # Which expert is the first to stand in order may differ; which neurons stand together may not.
        together = [{tuple(column) for column in found.permutations.T.tolist()} for found in (plain, changed)]
        assert together[0] == together[1]


def test_a_duplicated_expert_changes_neither_neurons_nor_bound() -> None:
    stack = layer()
    plain = barycenter(stack, weights=[2, 1, 1, 1])
    twice = barycenter(torch.cat([stack[:1], stack]))
    assert twice.objective == pytest.approx(plain.objective, rel=1e-6)
    assert twice.certificate.lower_bound == pytest.approx(plain.certificate.lower_bound, rel=1e-6)


@pytest.mark.parametrize("backend", ["native", "lapjv", "scipy"])
@pytest.mark.parametrize("offset", [0.0, 1e5, 1e7, 1e12])
def test_float64_costs_are_solved_exactly(offset: float, backend: str) -> None:
    cost = np.random.default_rng(0).random((200, 200))
    best = cost[linear_sum_assignment(cost)].sum()
    columns = assign(torch.tensor(cost + offset), backend=backend).permutation.numpy()
    # What the offset itself has rounded away is lost: 1e12 leaves four decimals.
    assert cost[np.arange(200), columns].sum() == pytest.approx(best, rel=1e-9 if offset < 1e9 else 1e-3)


def test_offsets_of_rows_and_columns_change_no_assignment() -> None:
    rng = np.random.default_rng(0)
    cost = rng.random((60, 60))
    shifted = cost + 1e6 * rng.random((60, 1)) + 1e6 * rng.random(60)
    assert torch.equal(assign(torch.tensor(shifted)).permutation, assign(torch.tensor(cost)).permutation)


@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), float("nan")])
def test_costs_that_are_not_finite_never_reach_a_solver(bad: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def solver(_: object) -> None:
        raise AssertionError("the solver was called")

    monkeypatch.setattr(assignment_module, "_backend", lambda name, rows: solver)
    cost = torch.rand(5, 5)
    cost[2, 3] = bad
    with pytest.raises(WeightError, match="NaN or infinity, expected finite"):
        assign(cost)


def test_rows_that_need_nothing_are_taken_as_they_are() -> None:
    [rows] = normalized([torch.randn(300, 20, generator=torch.Generator().manual_seed(0))])
    assert rows.plain
    [moved] = normalized([rows.values + 100])
    assert moved.shift is not None
    assert moved.block().mean(0).abs().max() < 1e-5


@pytest.mark.parametrize("count", [2, 3, 5, 7])
@pytest.mark.parametrize("offset", [0.0, 30.0, 3000.0])
def test_copies_with_a_common_part_are_at_no_distance(offset: float, count: int) -> None:
    stack = (layer()[:1] + offset).float().expand(count, -1, -1)
    found = barycenter(stack)
    # The mean of copies is rounded to float32, and what that leaves is no gap.
    assert found.objective <= 1e-13 * float(layer().square().sum())
    assert found.certificate.gap == 0
