"""Divergence of predictions, and generation side by side."""

import pytest
import torch

from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.experiments.divergence import (
    divergence,
    divergence_of_methods,
    generate_side_by_side,
    predicting_states,
)
from resmoe_lab.scoring.likelihood import Request

from ..experts import pico


def test_divergence_is_the_sum_over_the_vocabulary() -> None:
    model, other = pico.mixtral(), pico.mixtral(seed=1)
    other.lm_head.weight = model.lm_head.weight
    requests = [Request((1, 2), (3, 4, 5)), Request((6,), (7, 8))]
    states = [predicting_states(one, requests) for one in (model, other)]
    result = divergence(model, *states)
    total, same = 0.0, 0
    for request in requests:
        tokens = torch.tensor([request.context + request.continuation])
        with torch.no_grad():
            p, q = (one(tokens).logits[0, len(request.context) - 1 : -1].double().softmax(-1) for one in (model, other))
        total += float((p * (p / q).log()).sum())
        same += int((p.argmax(-1) == q.argmax(-1)).sum())
    assert result.kl == pytest.approx(total / 5, rel=1e-4)
    assert (result.agreement, result.tokens) == (same / 5, 5)
    assert divergence(model, states[0], states[0]).kl == pytest.approx(0, abs=1e-6)


def test_methods_diverge_and_write_side_by_side(tiny: Checkpoint) -> None:
    table = divergence_of_methods(tiny, methods=["up", "resmoe-up"], tokens=600).set_index("method")
    assert table.kl["up"] > 10 * table.kl["resmoe-up"] > 0
    assert table.agreement["up"] < table.agreement["resmoe-up"] < 1
    written = generate_side_by_side(tiny, methods=["resmoe-up"], prompts=["One morning"], new_tokens=8)
    assert list(written.method) == ["original", "resmoe-up"]
    assert written.same[0] == 8
    assert all(written.text.str.len() > 0)
