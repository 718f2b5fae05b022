"""Shared prefixes: fewer tokens, the same predictions as one pass per request."""

import pytest
import torch

from resmoe_lab._core.progress import silent
from resmoe_lab.scoring import likelihood
from resmoe_lab.scoring.likelihood import Request, likelihoods
from resmoe_lab.scoring.prefix_sharing import batch_inputs, has_full_attention, pack_requests

from ..experts import pico

PREFIX = (5, 6, 7, 8, 9, 10)
REQUESTS = [
    Request(PREFIX, (11, 12)),
    Request(PREFIX, (13, 14, 15)),
    Request((*PREFIX, 20), (30, 31)),
    Request((*PREFIX, 21, 22), (30, 31)),
    Request((1, 2), (3,)),
]


def test_a_row_holds_the_shared_prefix_once() -> None:
    row = pack_requests([((1, 2, 3, 4, 5), 2), ((1, 2, 3, 6, 7, 8), 3)])
    assert row.tokens == (1, 2, 3, 4, 6, 7)
    assert row.positions == (0, 1, 2, 3, 3, 4)
    assert row.branch_ids == (-1, -1, -1, 0, 1, 1)
    assert [branch.indices for branch in row.branches] == [(2, 3), (2, 4, 5)]
    assert [branch.targets for branch in row.branches] == [(4, 5), (6, 7, 8)]


@pytest.mark.parametrize(
    "model_type", ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v3", "granitemoe", "gpt_oss", "llama4_text"]
)
@torch.no_grad()
def test_scores_are_those_of_single_passes(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pico.PICO[model_type]()
    together = likelihoods(model, REQUESTS, window=64, task="t", progress=silent)
    monkeypatch.setattr(likelihood, "has_full_attention", lambda config: False)
    alone = likelihoods(model, REQUESTS, window=64, task="t", progress=silent)
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.log_probability == pytest.approx(theirs.log_probability, abs=1e-4)
        assert ours.greedy == theirs.greedy


def test_fewer_tokens_go_through_the_model() -> None:
    model = pico.mixtral()
    sizes: list[int] = []
    hook = model.model.register_forward_pre_hook(
        lambda module, args, given: sizes.append(given["input_ids"].numel()), with_kwargs=True
    )
    likelihoods(model, REQUESTS[:2], window=64, task="t", progress=silent)
    hook.remove()
    assert sum(sizes) == len(PREFIX) + 1 + 2 < 7 + 8


def test_a_group_that_the_window_does_not_hold_is_not_made() -> None:
    model = pico.mixtral()
    results = likelihoods(model, REQUESTS[:2], window=8, task="t", progress=silent)
    expected = [likelihoods(model, [one], window=8, task="t", progress=silent)[0] for one in REQUESTS[:2]]
    for ours, theirs in zip(results, expected, strict=True):
        assert ours.log_probability == pytest.approx(theirs.log_probability, abs=1e-5)


def test_rows_of_one_request_need_no_mask() -> None:
    assert set(batch_inputs([pack_requests([((1, 2, 3), 1)])], device="cpu", dtype=torch.float32)) == {"input_ids"}


def test_a_sliding_window_is_never_overruled() -> None:
    assert has_full_attention(pico.qwen2_moe().config)
    assert not has_full_attention(pico.gpt_oss().config)
