"""The barycenter engine against brute force and against what it must satisfy."""

from itertools import permutations, product

import pytest
import torch

from resmoe_lab._core.errors import UsageError, WeightError
from resmoe_lab.transport import barycenter, objective


def random_stack(experts: int, neurons: int, width: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(experts, neurons, width, generator=torch.Generator().manual_seed(seed))


def upcycled(experts: int, neurons: int, width: int, *, noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(neurons, width, generator=generator)
    orders = torch.stack([torch.randperm(neurons, generator=generator) for _ in range(experts)])
    noisy = [(base + noise * torch.randn(neurons, width, generator=generator))[order] for order in orders]
    return torch.stack(noisy), orders


def brute_force(stack: torch.Tensor) -> float:
    n = stack.shape[1]
    orders = [torch.tensor(order) for order in permutations(range(n))]
    best = float("inf")
    for others in product(orders, repeat=len(stack) - 1):
        joint = torch.stack([torch.arange(n), *others])
        aligned = torch.stack([rows[order] for rows, order in zip(stack, joint, strict=True)])
        best = min(best, objective(stack, joint, aligned.mean(0)))
    return best


@pytest.mark.parametrize("solver", ["alternating", "coordinate", "pot"])
def test_result_is_consistent_with_itself(solver):
    stack = random_stack(4, 12, 5)
    result = barycenter(stack, solver=solver)
    assert result.center.shape == (12, 5)
    assert result.permutations.shape == (4, 12)
    assert all(sorted(order) == list(range(12)) for order in result.permutations.tolist())
    assert result.objective == pytest.approx(objective(stack, result.permutations, result.center))
    assert result.certificate is not None
    assert 0 <= result.certificate.lower_bound <= result.objective
    assert result.certificate.kind == "bound"
    assert result.solver == solver


@pytest.mark.parametrize("seed", range(3))
def test_brute_force_lies_between_bound_and_objective(seed):
    stack = random_stack(3, 4, 2, seed=seed)
    best = brute_force(stack)
    result = barycenter(stack)
    assert result.certificate is not None
    assert result.certificate.lower_bound <= best * (1 + 1e-6)
    assert best <= result.objective * (1 + 1e-6)


@pytest.mark.parametrize("solver", ["alternating", "coordinate", "pot"])
def test_upcycled_experts_are_recovered_and_certified(solver):
    stack, orders = upcycled(4, 40, 30)
    result = barycenter(stack, solver=solver)
    truth = torch.stack([order.argsort()[orders[0]] for order in orders])
    assert torch.equal(result.permutations, truth)
    assert result.certificate is not None
    assert result.certificate.gap < 1e-4


def test_coordinate_is_never_worse_than_alternating():
    stack = random_stack(6, 50, 20)
    ours, papers = (barycenter(stack, solver=name, certify=False) for name in ("coordinate", "alternating"))
    assert ours.objective < papers.objective


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (torch.zeros(0, 3, 2), "no expert"),
        (torch.full((2, 3, 2), float("nan")), "expert 0 holds NaN"),
        ([torch.zeros(3, 2), torch.zeros(4, 2)], "expert 1 has shape"),
        (torch.zeros(2, 3, 2, dtype=torch.int64), "float matrix"),
    ],
)
def test_bad_stacks_are_named(stack, message):
    with pytest.raises(WeightError, match=message):
        barycenter(stack)


@pytest.mark.parametrize("arguments", [{"start": 9}, {"solver": "nope"}, {"max_iterations": 0}, {"weights": [1.0]}])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(UsageError):
        barycenter(random_stack(2, 3, 2), **arguments)
