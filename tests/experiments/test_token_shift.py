"""What compression does to tokens, against the model's own logits and counting by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.experiments.divergence import divergence, predicting_states
from resmoe_lab.experiments.runner import VariantRunner
from resmoe_lab.experiments.token_shift import compare_traces, logit_lens, routing_moves, routing_shift
from resmoe_lab.scoring.likelihood import Request, model_inputs
from resmoe_lab.scoring.traces import LayerRouting, token_request, trace_tokens

TEXT = "One morning the river was frozen, and the boats"


def _compared(name: str) -> tuple[Any, Request, Any, list[torch.Tensor], list[list[torch.Tensor]]]:
    """A model, the text, the shift, and logits and last states of both forms as the model itself gives them."""
    with VariantRunner(open_checkpoint(name)) as runner:
        model, tokenizer = runner.loaded
        request = token_request(model, tokenizer(TEXT)["input_ids"])
        traces, logits, states = [], [], []
        for variant in (runner.original, runner.variant("up", 0.25)):
            with runner.running(variant, skips_layers=False), torch.no_grad():
                traces.append(trace_tokens(model, runner.family, request, layers=runner.layers))
                logits.append(model(**model_inputs(model, request), use_cache=False).logits[0].double())
                states.append(predicting_states(model, [request]))
        return model, request, (compare_traces(model, request, *traces), traces), logits, states


@pytest.mark.parametrize("name", ["mixtral-tiny", "deepseek-tiny", "switch-tiny"])
def test_predictions_move_as_the_logits_say(name: str) -> None:
    model, request, (shift, traces), logits, states = _compared(name)
    p, q = (values.log_softmax(-1) for values in logits)
    kl = (p.exp() * (p - q)).sum(-1)
    np.testing.assert_allclose(shift.kl, kl.numpy(), atol=2e-6)
    for which, values in enumerate((p, q)):
        best = values.topk(5)
        np.testing.assert_array_equal(shift.top[which], best.indices.numpy())
        np.testing.assert_allclose(shift.top_probabilities[which], best.values.exp().numpy(), rtol=1e-4)
        tokens = torch.tensor([*request.context, *request.continuation])
        for row, token in enumerate(shift.predicting.tolist()):
            known = shift.next_probabilities[which, row]
            if token + 1 < len(tokens):
                assert known == pytest.approx(float(values[row, tokens[token + 1]].exp()), rel=1e-4)
            else:
                assert np.isnan(known)
    # The mean over the continuation is what divergence tells.
    expected = divergence(model, *states)
    last = len(request.continuation)
    rows = shift.kl[: len(shift.kl) - (0 if model.config.is_encoder_decoder else 1)][-last:]
    assert rows.mean() == pytest.approx(expected.kl, rel=1e-4)
    assert not shift.distance[0].any(), "embeddings are not compressed"
    assert (shift.distance[-1] > 0).all()
    assert torch.equal(logit_lens(model, traces[0].states[:, 2])[-1].topk(5).indices, p[2].topk(5).indices)


def test_the_lens_of_a_layer_is_the_head_after_the_norm(tiny: Checkpoint) -> None:
    model, _, (_, traces), _, _ = _compared("mixtral-tiny")
    states = traces[0].states[:, 4]
    read = logit_lens(model, states)
    with torch.no_grad():
        expected = model.lm_head(model.model.norm(states[1])).log_softmax(-1)
    torch.testing.assert_close(read[1], expected)


def _routing(experts: list[list[int]], gates: list[list[float]] | None = None) -> LayerRouting:
    log_gates = None if gates is None else torch.tensor(gates).log()
    return LayerRouting(torch.arange(len(experts)), torch.tensor(experts), 4, log_gates)


def test_moves_pair_the_strongest_with_the_strongest() -> None:
    before, after = _routing([[0, 1], [2, 3], [0, 3]]), _routing([[1, 0], [1, 0], [3, 2]])
    moves = np.zeros((4, 4), dtype=int)
    moves[0, 0] = moves[1, 1] = moves[2, 1] = moves[3, 0] = moves[3, 3] = moves[0, 2] = 1
    np.testing.assert_array_equal(routing_moves(before, after), moves)


def test_shifts_are_counted_by_layer() -> None:
    gates = [[0.5, 0.3, 0.1, 0.1]] * 3
    other = [[0.25, 0.25, 0.25, 0.25]] * 3
    before, after = _routing([[0, 1], [2, 3], [0, 3]], gates), _routing([[1, 0], [1, 0], [3, 2]], other)
    table = routing_shift({5: (before, after), 6: (_routing([[0, 1]]), _routing([[0, 1]]))})
    assert table["layer"].tolist() == [5, 6]
    assert table["tokens"].tolist() == [3, 1]
    assert table["rerouted"].tolist() == pytest.approx([2 / 3, 0])
    assert table["moved"].tolist() == pytest.approx([3 / 6, 0])
    expected = sum(p * np.log(p / 0.25) for p in gates[0])
    assert table["gate_kl"].iloc[0] == pytest.approx(expected, rel=1e-5)
    assert np.isnan(table["gate_kl"].iloc[1])


def test_traces_of_other_texts_are_refused() -> None:
    model, request, (_, traces), _, _ = _compared("mixtral-tiny")
    shorter = trace_tokens(model, _family(), token_request(model, request.continuation), layers=[0, 1, 2, 3])
    with pytest.raises(UsageError, match="expected the same text"):
        compare_traces(model, request, traces[0], shorter)


def _family() -> Any:
    from resmoe_lab.experts import family_of

    return family_of(open_checkpoint("mixtral-tiny"))
