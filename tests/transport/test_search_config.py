import subprocess
import sys

import pytest
import torch

from resmoe_lab import transport
from resmoe_lab._core.errors import UsageError
from resmoe_lab.transport import plan_search
from resmoe_lab.transport.problem import Problem
from resmoe_lab.transport.search_config import are_near_duplicates

from .clouds import unrelated, upcycled

LIMIT = 8 << 30


def test_wide_experts_are_kept_and_narrow_ones_are_not():
    assert plan_search(8, 3072, 6144, memory=LIMIT).mode == "gram"
    assert plan_search(8, 3072, 32, certify=False, memory=LIMIT).mode == "direct"


def test_copies_are_computed_as_needed():
    config = plan_search(8, 3072, 6144, near_duplicates=True, memory=LIMIT)
    assert config.mode == "direct"
    assert "near-duplicates" in config.reason


def test_little_memory_sends_products_to_files_or_nowhere(monkeypatch):
    wide = plan_search(8, 3072, 24576, memory=1 << 28)
    assert (wide.mode, wide.scratch) == ("gram", True)
    assert wide.peak_bytes < wide.scratch_bytes + 4 * 3072 * 24576 * 4
    assert plan_search(8, 3072, 6144, memory=1 << 28).mode == "direct"  # files are too slow for that little
    monkeypatch.setattr("resmoe_lab.transport.search_config._free_disk", lambda: 0)
    config = plan_search(8, 3072, 24576, memory=1 << 28)
    assert config.mode == "direct"
    assert "room" in config.reason


def test_forecasts_grow_with_the_problem():
    small, large = plan_search(8, 1024, 512, memory=LIMIT), plan_search(8, 2048, 512, memory=LIMIT)
    assert 0 < small.seconds < large.seconds
    assert 0 < small.peak_bytes < large.peak_bytes


def test_a_given_mode_is_used():
    assert plan_search(2, 10, 10, mode="gram").reason == "set by the caller"
    with pytest.raises(UsageError, match="mode is 'fast'"):
        plan_search(2, 10, 10, mode="fast")


def test_copies_are_near_duplicates_and_unrelated_experts_are_not():
    assert are_near_duplicates(Problem(upcycled(3, 100, 60)[0]))
    assert not are_near_duplicates(Problem(unrelated(3, 100, 60)))
    assert not are_near_duplicates(Problem(unrelated(1, 100, 60)))
    assert not are_near_duplicates(Problem(torch.zeros(3, 10, 4)))


MEASURE = """
import resource, sys, torch
from resmoe_lab.transport import barycenter

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

torch.set_num_threads(1)  # waiting for threads on a busy machine takes longer than the work
mode = sys.argv[1]
barycenter(torch.randn(2, 700, 500), mode=mode)
stack = torch.empty(3, 2600, 300)
for rows in stack:
    rows.normal_()
before = peak()
result = barycenter(stack, mode=mode)
print(peak() - before, result.plan.peak_bytes)
"""


@pytest.mark.parametrize("mode", ["direct", "gram"])
def test_real_memory_stays_within_the_plan(mode):
    done = subprocess.run([sys.executable, "-c", MEASURE, mode], capture_output=True, text=True, check=True)
    used, planned = map(int, done.stdout.split())
    assert used <= planned * 1.1 + (16 << 20)
    if mode == "direct":
        assert used < 2 * 4 * 2600**2  # never two cost matrices


@pytest.mark.parametrize(("old", "new"), [("Plan", "SearchConfig"), ("plan", "plan_search")])
def test_old_names_go_on_working(old, new):
    with pytest.warns(DeprecationWarning, match=f"use resmoe_lab.transport.{new}"):
        assert getattr(transport, old) is getattr(transport, new)
