import errno
import os
import sys

import pytest
import torch

from resmoe_lab._core.errors import OutputError
from resmoe_lab.transport import barycenter
from resmoe_lab.transport.assignment import assign
from resmoe_lab.transport.gram_backend import GramBackend
from resmoe_lab.transport.matching_backends import DirectBackend
from resmoe_lab.transport.problem import Problem

from .clouds import unrelated


def test_gathered_products_are_those_of_the_mean():
    stack = unrelated(4, 130, 9)
    problem = Problem(stack, [1.0, 2.0, 3.0, 4.0])
    stack = torch.stack([problem.expert(k) for k in range(4)])  # less their means, as the search sees them
    gram = GramBackend(problem)
    gram.set_permutations(torch.stack([torch.randperm(130) for _ in range(4)]))
    factors = [0.5, -1.0, 0.0, 2.0]
    for k in range(4):
        gram._gather(k, factors)
        mean = sum(f * stack[m][gram.permutations[m]] for m, f in enumerate(factors))
        torch.testing.assert_close(gram.buffer, mean @ stack[k].T, rtol=1e-4, atol=1e-4)


def test_rematching_agrees_with_the_direct_way():
    problem = Problem(unrelated(5, 60, 12), [1.0, 2.0, 1.0, 3.0, 1.0])
    direct, gram = DirectBackend(problem), GramBackend(problem)
    for exclude_self in (True, False):
        for k in range(5):
            (one,), (other,) = (
                backend.match_to_mean([(k, None)], exclude_self=exclude_self) for backend in (direct, gram)
            )
            assert torch.equal(one.permutation, other.permutation)
            assert abs(one.gain - other.gain) < 1e-3
            (warm,) = gram.match_to_mean([(k, other.potential)], exclude_self=exclude_self)
            assert torch.equal(warm.permutation, other.permutation)
            assert abs(warm.gain - other.gain) < 1e-3


def test_a_mean_of_some_experts_grows_as_others_join():
    stack = unrelated(4, 60, 12)
    weights = torch.tensor([1.0, 2.0, 1.0, 3.0])
    for backend in (DirectBackend(Problem(stack, weights)), GramBackend(Problem(stack, weights))):
        backend.set_permutations(torch.arange(60).repeat(4, 1), members=[2])
        for k, members in ((0, [2]), (3, [2, 0])):
            (realignment,) = backend.match_to_mean([(k, None)], exclude_self=True)
            shares = weights[members, None, None] / weights[members].sum()
            mean = (shares * torch.stack([stack[m][backend.permutations[m]] for m in members])).sum(0)
            assert torch.equal(realignment.permutation, assign(torch.cdist(mean, stack[k]).square()).permutation)
            backend.set_permutation(k, realignment.permutation)


def test_products_on_disk_are_the_same_and_are_cleaned_up(tmp_path):
    problem = Problem(unrelated(3, 50, 8))
    here, there = GramBackend(problem), GramBackend(problem, tmp_path)
    assert torch.equal(*(gram.match_pairs([(0, 2, None)])[0].permutation for gram in (here, there)))
    assert len(list(tmp_path.rglob("0-2"))) == 1
    there.close()
    assert list(tmp_path.iterdir()) == []


def test_scratch_files_are_gone_after_a_search(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stack = unrelated(4, 50, 8)
    result = barycenter(stack, mode="gram", memory=1)
    assert result.plan.scratch
    assert result.plan.scratch_bytes == 4 * 50 * 50 * 10
    assert torch.equal(result.permutations, barycenter(stack, mode="gram").permutations)
    assert list(tmp_path.iterdir()) == []


def test_products_on_a_full_disk_are_one_line(tmp_path, monkeypatch):
    """A mapped file whose room is not its own would end the process."""

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    gram = GramBackend(Problem(unrelated(2, 30, 5)), tmp_path)
    with pytest.raises(OutputError, match=r"0-1 could not be written .No space left on device."):
        gram.products(0, 1)
    gram.close()
    assert not list(tmp_path.iterdir())
