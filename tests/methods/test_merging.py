"""Merging against copies, against averages written out, and what is really stored."""

from dataclasses import replace

import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.analysis.approximation import approximation_error
from resmoe_lab.experts import Block, ExpertStack
from resmoe_lab.methods import METHODS, compress_layer, storage_ledger
from resmoe_lab.store import EXACT_STORAGE

from .calibrated import statistics

BLOCKS = (Block("w1", 0, 4), Block("w2", 4, 8))
MERGING = ("m-smoe", "git-rebasin", "meo")


def _stack(weights: torch.Tensor) -> ExpertStack:
    return ExpertStack(weights, BLOCKS, layer=0)


def _random(count: int, neurons: int = 6, seed: int = 0) -> ExpertStack:
    return _stack(torch.randn(count, neurons, 8, generator=torch.Generator().manual_seed(seed)))


def _shuffled_pairs() -> ExpertStack:
    """Experts 0 and 2 are copies in other orders, and so are 1 and 3."""
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(2, 6, 8, generator=generator)
    return _stack(torch.stack([base[k % 2][torch.randperm(6, generator=generator)] for k in range(4)]))


@pytest.mark.parametrize("name", ["m-smoe", "git-rebasin"])
def test_shuffled_copies_merge_without_a_loss(name: str) -> None:
    stack = _shuffled_pairs()
    layer = compress_layer(stack, method=name, storage=EXACT_STORAGE, keep=0.5)
    assert layer.groups == (0, 1, 0, 1)
    assert layer.layout.num_stored == 2
    assert approximation_error(stack, layer) == pytest.approx(0.0, abs=1e-9)
    unaligned = compress_layer(stack, method="meo", storage=EXACT_STORAGE, keep=0.5)
    assert approximation_error(stack, unaligned) > 1.0


def test_usage_decides_who_is_dominant_and_how_much_one_weighs() -> None:
    """Written out: experts 2 and 3 are used most; 0 joins 3, and 1 joins 2, by the routers' similarity."""
    stack = _random(4)
    affinity = torch.eye(4, dtype=torch.float64)
    affinity[0, 3], affinity[1, 2] = 0.9, 0.8
    given = replace(statistics(4, 6, 4), affinity=affinity)  # usage .1 .2 .3 .4
    layer = compress_layer(stack, method="meo", storage=EXACT_STORAGE, keep=0.5, statistics=given)
    assert layer.groups == (1, 0, 0, 1)
    first = (0.2 * stack.weights[1] + 0.3 * stack.weights[2]) / 0.5
    second = (0.1 * stack.weights[0] + 0.4 * stack.weights[3]) / 0.5
    torch.testing.assert_close(layer.restore(), torch.stack([second, first, first, second]))
    even = compress_layer(stack, method="git-rebasin", storage=EXACT_STORAGE, keep=0.5, statistics=given)
    aligned = [weights[order] for weights, order in zip(stack.weights, even.orders, strict=True)]
    torch.testing.assert_close(even.restore()[0], (aligned[0] + aligned[3]) / 2)


@pytest.mark.parametrize("name", MERGING)
def test_a_group_that_no_token_reaches_is_averaged_evenly(name: str) -> None:
    stack = _random(4)
    usage = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    affinity = torch.eye(4, dtype=torch.float64)
    affinity[2, 1] = affinity[3, 1] = 0.5
    given = replace(statistics(4, 6, 4), usage=usage, affinity=affinity)
    layer = compress_layer(stack, method=name, storage=EXACT_STORAGE, keep=0.5, statistics=given)
    assert layer.groups == (0, 1, 1, 1)
    aligned = torch.stack([weights[order] for weights, order in zip(stack.weights, layer.orders, strict=True)])
    torch.testing.assert_close(layer.restore()[3], aligned[1:].mean(0))


@pytest.mark.parametrize("name", MERGING)
def test_fewer_experts_are_really_stored(name: str) -> None:
    """Eight to two, as in appendix A.3: two whole matrices and a map of eight numbers."""
    stack = _random(8)
    layer = compress_layer(stack, method=name, keep=0.25)
    assert layer.layout.num_stored == 2
    ledger = storage_ledger(layer)
    assert ledger.true_bytes == 2 * 6 * 8 * 2 + 8 * 2
    assert ledger.paper_bytes == ledger.original_bytes // 4
    assert layer.restore().shape == stack.weights.shape


@pytest.mark.parametrize("name", MERGING)
def test_keeping_all_experts_changes_nothing(name: str) -> None:
    stack = _random(3)
    layer = compress_layer(stack, method=name, storage=EXACT_STORAGE, keep=1.0)
    assert approximation_error(stack, layer) == 0.0
    assert METHODS[name]().errors(stack, [1.0], storage=EXACT_STORAGE) == [0.0]
    assert not [entry for entry in storage_ledger(layer).entries if entry.item == "map"]


@pytest.mark.parametrize("groups", [0, 5])
@pytest.mark.parametrize("name", MERGING)
def test_a_number_of_groups_that_cannot_be(name: str, groups: int) -> None:
    with pytest.raises(UsageError, match=f"{groups} groups of 4 experts, expected a number from 1 to 4"):
        METHODS[name](groups=groups).compress(_random(4), 0.5)


def test_neurons_are_matched_once_for_a_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    method, calls = METHODS["m-smoe"](), []
    align = method.align
    monkeypatch.setattr(method, "align", lambda stack: calls.append(stack) or align(stack))
    for stack in (_random(3), _random(3, seed=1)):
        error = method.errors(stack, [0.4, 0.7])[0]
        assert approximation_error(stack, method.compress(stack, 0.4)) == pytest.approx(error)
    assert len(calls) == 2


def test_a_fixed_number_of_groups() -> None:
    assert len(METHODS["meo"](groups=3).compress(_random(4), 0.25).layout.counts) == 3
