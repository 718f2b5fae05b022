"""The whole search: what must hold for every solver, every mode and every kind of input."""

import warnings
from itertools import pairwise

import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resmoe_lab._core.errors import Cancelled, UsageError, WeightError
from resmoe_lab._core.progress import Tick
from resmoe_lab.transport import assign, barycenter, objective, squared_distances

from .clouds import unrelated, upcycled

SOLVERS = ["alternating", "coordinate", "pot"]


def aligned(stack: torch.Tensor, permutations: torch.Tensor) -> torch.Tensor:
    return torch.stack([rows[order] for rows, order in zip(stack, permutations, strict=True)])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("weights", [None, [1.0, 3.0, 0.0, 2.0]])
def test_result_agrees_with_itself(solver, weights):
    stack = unrelated(4, 12, 5)
    result = barycenter(stack, solver=solver, weights=weights)
    shares = torch.tensor([0.25] * 4 if weights is None else weights)
    assert result.center.dtype == torch.float32
    assert result.permutations.dtype == torch.int64
    assert all(sorted(order) == list(range(12)) for order in result.permutations.tolist())
    assert result.objective == pytest.approx(objective(stack, result.permutations, result.center, shares))
    mean = torch.einsum("k,kij->ij", shares / shares.sum(), aligned(stack, result.permutations))
    torch.testing.assert_close(result.center, mean)
    assert result.history[-1].objective == pytest.approx(result.objective, rel=1e-5)
    assert (result.solver, result.iterations) == (solver, len(result.history))
    assert result.seconds > 0


@given(
    experts=st.integers(2, 6),
    size=st.integers(2, 30),
    noise=st.sampled_from([0.3, 1.0, 3.0]),
    seed=st.integers(0, 2**16),
    mode=st.sampled_from(["direct", "gram"]),
    start=st.sampled_from([0, 1, "medoid", "average"]),
)
@settings(max_examples=50, deadline=None)
def test_the_objective_never_rises_and_coordinate_is_never_worse(experts, size, noise, seed, mode, start):
    stack, _ = upcycled(experts, size, 6, noise=noise, seed=seed)
    papers = barycenter(stack, solver="alternating", start=start, mode=mode, certify=False)
    ours = barycenter(stack, solver="coordinate", start=start, mode=mode, tolerance=0, certify=False)
    for result in (papers, ours):
        values = [step.objective for step in result.history]
        assert all(new <= old * (1 + 1e-6) for old, new in pairwise(values))
        assert result.objective == pytest.approx(values[-1], rel=1e-4, abs=1e-6)
    assert ours.objective <= papers.objective * (1 + 1e-6)


@pytest.mark.parametrize("solver", ["alternating", "coordinate"])
@pytest.mark.parametrize("mode", ["direct", "gram"])
def test_permuted_and_scaled_inputs_give_the_same_alignment(solver, mode):
    stack = unrelated(4, 40, 8)
    plain = barycenter(stack, solver=solver, mode=mode, certify=False)
    orders = torch.stack([torch.arange(40), *[torch.randperm(40) for _ in range(3)]])
    moved = barycenter(4 * aligned(stack, orders), solver=solver, mode=mode, certify=False)
    assert torch.equal(torch.gather(orders, 1, moved.permutations), plain.permutations)
    torch.testing.assert_close(moved.center, 4 * plain.center)
    assert moved.objective == pytest.approx(16 * plain.objective, rel=1e-6)


def test_the_bound_does_not_depend_on_the_order_of_experts():
    stack = unrelated(4, 30, 8)
    one, other = (barycenter(stack[order]).certificate for order in ([0, 1, 2, 3], [2, 0, 3, 1]))
    assert one is not None
    assert other is not None
    assert one.lower_bound == pytest.approx(other.lower_bound, rel=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_copies_are_recovered(solver):
    stack, truth = upcycled(4, 40, 30)
    result = barycenter(stack, solver=solver)
    assert torch.equal(result.permutations, truth)
    assert result.certificate is not None
    assert result.certificate.gap < 1e-5


@pytest.mark.parametrize("noise", [0.1, 1.0, 5.0])
def test_both_modes_agree(noise):
    stack, _ = upcycled(5, 60, 300, noise=noise)
    direct, gram = (barycenter(stack, mode=mode) for mode in ("direct", "gram"))
    assert (direct.plan.mode, gram.plan.mode) == ("direct", "gram")
    assert torch.equal(direct.permutations, gram.permutations)
    assert direct.certificate is not None
    assert gram.certificate is not None
    assert direct.certificate.lower_bound == pytest.approx(gram.certificate.lower_bound, rel=1e-5)


def test_alternating_agrees_with_pot_where_pot_is_right():
    stack = unrelated(5, 80, 10)
    ours, theirs = (barycenter(stack, solver=name, certify=False) for name in ("alternating", "pot"))
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-6)


def test_we_do_not_stop_where_pot_does():
    a, b = unrelated(2, 2500, 64)
    cost = squared_distances(a, b)
    masses = torch.full((2500,), 1 / 2500, dtype=torch.float64).numpy()
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        theirs = 2500 * ot.emd2(masses, masses, cost.double().numpy())
    ours = assign(cost)
    assert float(ours.row_potential.sum() + ours.col_potential.sum()) == pytest.approx(ours.cost, rel=1e-6)
    assert theirs > ours.cost * 1.0005


@pytest.mark.parametrize("mode", ["direct", "gram"])
def test_experts_that_weigh_nothing_change_nothing_but_are_aligned(mode):
    stack, weights = unrelated(5, 30, 8), [0.0, 1.0, 2.0, 0.0, 1.0]
    result = barycenter(stack, weights=weights, mode=mode)
    fewer = barycenter(stack[[1, 2, 4]], weights=[1.0, 2.0, 1.0], mode=mode)
    assert result.objective == pytest.approx(fewer.objective, rel=0.05)
    assert torch.isfinite(result.center).all()
    assert torch.equal(result.permutations.sort(dim=1).values, torch.arange(30).repeat(5, 1))


def test_coordinate_is_better_than_alternating_and_random_orders_and_restarts_are_reproducible():
    stack = unrelated(6, 50, 20)
    papers = barycenter(stack, solver="alternating", certify=False)
    ours = barycenter(stack, certify=False)
    more = [barycenter(stack, restarts=3, random_order=True, seed=5, certify=False) for _ in range(2)]
    assert ours.objective < papers.objective
    assert more[0].objective <= ours.objective * 1.01
    assert torch.equal(more[0].permutations, more[1].permutations)


@pytest.mark.parametrize("mode", ["direct", "gram"])
def test_one_thread_and_two_give_the_same_permutations(mode):
    stack = unrelated(4, 400, 700)
    threads = torch.get_num_threads()
    permutations = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            permutations.append(barycenter(stack, mode=mode, certify=False).permutations)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*permutations)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_give_what_float32_gives(dtype):
    stack = unrelated(3, 40, 300).to(dtype)
    ours, plain = barycenter(stack), barycenter(stack.float())
    assert ours.center.dtype == torch.float32
    assert torch.equal(ours.permutations, plain.permutations)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_experts_are_left_as_they_were(solver, dtype):
    stack = unrelated(3, 12, 5).to(dtype)
    before = stack.clone()
    barycenter(stack, solver=solver)
    assert torch.equal(stack, before)


def test_a_sequence_does_as_well_as_a_stack():
    stack = unrelated(3, 10, 4)
    assert torch.equal(barycenter(list(stack)).center, barycenter(stack).center)


def test_one_expert_is_its_own_center():
    stack = unrelated(1, 6, 3)
    result = barycenter(stack)
    assert torch.equal(result.center, stack[0])
    assert result.objective == 0
    assert result.certificate is not None
    assert (result.certificate.gap, result.certificate.pairs) == (0, 0)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_and_identical_experts_cost_nothing(solver, value):
    result = barycenter(torch.full((3, 8, 4), value), solver=solver)
    assert result.objective == pytest.approx(0, abs=1e-9)
    assert result.certificate is not None
    assert result.certificate.gap == 0


def test_identical_rows_among_different_ones():
    stack, _ = upcycled(3, 20, 9, noise=0.0)
    stack[:, 5] = stack[:, 7]
    result = barycenter(stack)
    assert result.certificate is not None
    assert 0 <= result.certificate.lower_bound <= result.objective


def test_medoid_is_the_expert_nearest_to_all():
    stack = torch.stack([torch.full((3, 2), value) for value in (0.0, 10.0, 4.0)])
    result = barycenter(stack, solver="alternating", start="medoid", max_iterations=1, certify=False)
    assert result.permutations[2].tolist() == [0, 1, 2]
    assert result.objective == pytest.approx(objective(stack, result.permutations, stack.mean(0)))


def test_work_stops_between_assignments():
    ticks: list[Tick] = []

    def stop_at_five(tick: Tick) -> None:
        ticks.append(tick)
        if len(ticks) == 5:
            raise Cancelled("asked to stop")

    with pytest.raises(Cancelled):
        barycenter(unrelated(5, 20, 4), progress=stop_at_five)
    assert len(ticks) == 5


def test_progress_tells_the_objective():
    ticks: list[Tick] = []
    result = barycenter(unrelated(4, 20, 4), progress=ticks.append)
    objectives = [tick.facts["objective"] for tick in ticks if "changed" in tick.facts]
    assert objectives == [step.objective for step in result.history]


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (torch.zeros(0, 3, 2), "no expert"),
        (torch.full((2, 3, 2), float("nan")), "expert 0 holds NaN"),
        (torch.full((2, 3, 2), float("inf")), "expert 0 holds NaN or infinity"),
        ([torch.zeros(3, 2), torch.zeros(4, 2)], "expert 1 has shape"),
        ([torch.zeros(3, 2), torch.zeros(3, 4)], "expert 1 has shape"),
        (torch.zeros(2, 3, 2, dtype=torch.int64), "float matrix"),
        (torch.zeros(2, 0, 2), "not empty"),
        (torch.zeros(3, 2), "float matrix"),
    ],
)
def test_bad_stacks_are_named(stack, message):
    with pytest.raises(WeightError, match=message):
        barycenter(stack)


@pytest.mark.parametrize(
    "arguments",
    [
        {"start": 9},
        {"start": "middle"},
        {"solver": "coordinat"},
        {"max_iterations": 0},
        {"tolerance": -1.0},
        {"restarts": -1},
        {"sample_pairs": 0},
        {"mode": "gramm"},
        {"weights": [1.0]},
        {"weights": [0.0, 0.0]},
        {"weights": [1.0, -1.0]},
        {"weights": [1.0, float("nan")]},
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(UsageError):
        barycenter(unrelated(2, 3, 2), **arguments)
