"""Experts taken away, against runs in which the router's choice of them is removed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from resmoe_lab._core.errors import Cancelled, UsageError
from resmoe_lab._core.progress import Tick
from resmoe_lab.centers import find_center
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.experiments.divergence import divergence, predicting_states
from resmoe_lab.experiments.expert_ablation import ablate_experts
from resmoe_lab.experiments.runner import VariantRunner
from resmoe_lab.runtime import restored_experts
from resmoe_lab.scoring.calibration import calibration_requests, passage_requests

TOKENS = 200


@pytest.mark.parametrize(("name", "layer"), [("mixtral-tiny", 2), ("deepseek-tiny", 1), ("switch-tiny", 3)])
def test_an_expert_that_is_off_is_one_whose_gate_is_zero(name: str, layer: int) -> None:
    with VariantRunner(open_checkpoint(name)) as runner:
        table = ablate_experts(runner, layers=[layer], tokens=TOKENS)
        model, tokenizer = runner.loaded
        requests = calibration_requests(model, tokenizer, tokens=TOKENS)
        original = predicting_states(model, requests)
        experts = runner.family.experts_module(model, layer)
        for row in table.iloc[[0, 3]].itertuples():

            def without(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], expert: int = row.expert) -> Any:
                hidden, index, weights = (*args, *kwargs.values())
                chosen = index[:, 0, expert, None].bool() if index.dim() == 3 else index == expert
                return (hidden, index, weights.masked_fill(chosen, 0.0)), {}

            hook = experts.register_forward_pre_hook(without, with_kwargs=True)
            states = predicting_states(model, requests)
            hook.remove()
            assert row.kl == pytest.approx(divergence(model, original, states).kl, rel=1e-3, abs=1e-6)
        assert table["share"].sum() == pytest.approx(1)
        # Afterwards the model is what it was.
        assert all(torch.equal(a, b) for a, b in zip(original, predicting_states(model, requests), strict=True))


def test_a_center_in_an_experts_place_is_that_stack_restored() -> None:
    checkpoint = open_checkpoint("mixtral-tiny")
    with VariantRunner(checkpoint) as runner:
        table = ablate_experts(runner, layers=[1], replaced_by=["center"], tokens=TOKENS)
        model, tokenizer = runner.loaded
        requests = calibration_requests(model, tokenizer, tokens=TOKENS)
        original = predicting_states(model, requests)
        stack = runner.stack(1)
        weights = stack.weights.clone()
        weights[5] = find_center(stack).expert(0)
        with restored_experts(model, checkpoint, [stack.with_weights(weights)]):
            states = predicting_states(model, requests)
        expected = divergence(model, original, states).kl
    assert table.set_index("expert").loc[5, "kl"] == pytest.approx(expected, rel=1e-3)


def test_what_does_not_exist_is_said_and_stopping_restores_the_model() -> None:
    with VariantRunner(open_checkpoint("mixtral-tiny")) as runner:
        with pytest.raises(UsageError, match="expected 'off' or 'center'"):
            ablate_experts(runner, replaced_by=["mean"])  # type: ignore[list-item]
        with pytest.raises(UsageError, match="layer 9 has no experts"):
            ablate_experts(runner, layers=[9])
        before = runner.family.from_model(runner.loaded[0], 0).weights

        def stop(tick: Tick) -> None:
            if tick.done == 3:
                raise Cancelled("stopped")

        with pytest.raises(Cancelled):
            ablate_experts(runner, tokens=TOKENS, progress=stop)
        assert torch.equal(runner.family.from_model(runner.loaded[0], 0).weights, before)


def test_a_passage_is_read_as_far_as_tokens_are_wanted() -> None:
    with VariantRunner(open_checkpoint("mixtral-tiny")) as runner:
        model, tokenizer = runner.loaded
        passage = "Olive put the small drum in the basket."
        [request] = passage_requests(model, tokenizer, passage)
        assert [*request.context, *request.continuation] == tokenizer(passage)["input_ids"]
        table = ablate_experts(runner, layers=[3], passage=passage)
        with torch.no_grad():
            ids = torch.tensor([tokenizer(passage)["input_ids"]])
            loss = model(ids, labels=ids).loss
        assert table["original_perplexity"].iloc[0] == pytest.approx(float(loss.exp()), rel=1e-4)
        read = passage_requests(model, tokenizer, "drum " * 100_000, tokens=600)
        assert 600 <= sum(len(one.context) + len(one.continuation) for one in read) < 1200
        with pytest.raises(UsageError, match="no token that can be predicted"):
            passage_requests(model, tokenizer, "")
