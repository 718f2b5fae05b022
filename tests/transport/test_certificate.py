import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resmoe_lab.transport import barycenter, matching
from resmoe_lab.transport.bounds import aligned_distances, bound_all_pairs
from resmoe_lab.transport.certificate import certificate_from
from resmoe_lab.transport.problem import Problem

from .clouds import brute_force, unrelated, upcycled


@given(
    experts=st.integers(1, 6),
    size=st.integers(1, 25),
    noise=st.sampled_from([0.0, 0.1, 0.4, 1.0, 4.0]),
    seed=st.integers(0, 2**16),
    weighted=st.booleans(),
    solver=st.sampled_from(["alternating", "coordinate"]),
)
@settings(max_examples=60, deadline=None)
def test_the_bound_never_passes_the_objective(experts, size, noise, seed, weighted, solver):
    stack, _ = upcycled(experts, size, 7, noise=noise, seed=seed)
    weights = torch.rand(experts, generator=torch.Generator().manual_seed(seed)) if weighted else None
    result = barycenter(stack, solver=solver, weights=weights)
    certificate = result.certificate
    assert certificate is not None
    assert certificate.kind == "bound"
    assert certificate.pairs == experts * (experts - 1) // 2
    assert 0 <= certificate.lower_bound <= result.objective
    assert certificate.gap >= 0


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 4.0, 2.0])])
@pytest.mark.parametrize("seed", range(4))
def test_brute_force_lies_between_bound_and_objective(seed, weights):
    stack = unrelated(3, 4, 2, seed=seed)
    best = brute_force(stack, weights)
    result = barycenter(stack, weights=weights)
    assert result.certificate is not None
    assert result.certificate.lower_bound <= best * (1 + 1e-6)
    assert best <= result.objective * (1 + 1e-6)


def test_two_experts_are_always_solved():
    result = barycenter(unrelated(2, 60, 5))
    assert result.certificate is not None
    assert result.certificate.gap < 1e-5


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.35])
def test_copies_are_certified_without_matching_their_pairs(noise, monkeypatch):
    stack, truth = upcycled(6, 100, 400, noise=noise)
    monkeypatch.setattr(matching, "solve", None)
    result = barycenter(stack)
    assert torch.equal(result.permutations, truth)
    assert result.certificate is not None
    assert result.certificate.gap < 1e-6
    assert result.iterations == 1


def test_strong_noise_is_bounded_from_all_columns_of_the_distances_to_the_center():
    """At 0.9, a part of the columns seems to need more of them than there are."""
    stack, truth = upcycled(10, 120, 4096, noise=0.9)
    problem = Problem(stack)
    aligned, bounds = bound_all_pairs(problem, truth, center=problem.mean(truth), products=problem.buffer())
    assert bool((bounds >= aligned * (1 - 1e-6)).all())


def test_noise_as_large_as_the_weights_is_certified_too():
    stack, truth = upcycled(4, 150, 2000, noise=1.0)
    result = barycenter(stack)
    assert torch.equal(result.permutations, truth)
    assert result.certificate is not None
    assert result.certificate.gap < 1e-6


def test_bounds_of_all_pairs_are_below_true_distances():
    stack = unrelated(4, 30, 5)
    problem = Problem(stack)
    stack = torch.stack([problem.expert(k) for k in range(4)])  # less their means, as the search sees them
    permutations = problem.identity()
    aligned, bounds = bound_all_pairs(problem, permutations, center=stack.mean(0), products=problem.buffer())
    for i in range(4):
        for j in range(i):
            best = matching.match(stack[i], stack[j], products=problem.buffer()).cost
            assert bounds[i, j] <= best + 1e-6
            assert aligned[i, j] == pytest.approx(float((stack[i] - stack[j]).square().sum()), rel=1e-5)


def test_radius_is_the_farthest_expert():
    stack = unrelated(3, 8, 4)
    problem = Problem(stack)
    stack = torch.stack([problem.expert(k) for k in range(3)])  # less their means, as the search sees them
    _, radius = aligned_distances(problem, problem.identity(), stack.mean(0))
    torch.testing.assert_close(radius.float(), (stack - stack.mean(0)).norm(dim=2).amax(0))


def test_a_sample_of_pairs_is_an_estimate():
    stack = unrelated(6, 60, 10)
    complete = barycenter(stack).certificate
    part = barycenter(stack, sample_pairs=7).certificate
    assert complete is not None
    assert part is not None
    assert (part.kind, part.pairs) == ("estimate", 7)
    assert part.lower_bound == pytest.approx(complete.lower_bound, rel=0.05)
    again = barycenter(stack, sample_pairs=7).certificate
    assert again == part


def test_sampling_more_pairs_than_there_are_is_a_bound():
    certificate = barycenter(unrelated(3, 10, 4), sample_pairs=99).certificate
    assert certificate is not None
    assert (certificate.kind, certificate.pairs) == ("bound", 3)


def test_nothing_out_of_nothing_is_no_gap():
    assert certificate_from(0.0, 0.0, pairs=1).gap == 0
    assert certificate_from(0.0, 1.0, pairs=1).gap == float("inf")
    assert certificate_from(2.0, 3.0, pairs=1).gap == 0.5
