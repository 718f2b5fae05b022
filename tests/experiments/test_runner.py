"""The one runner of variants: what runs, what is loaded when, and what decides a score."""

from pathlib import Path

import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.centers import find_center
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.experiments.runner import VariantRunner
from resmoe_lab.experts import family_of, load_stack
from resmoe_lab.methods import METHODS, compress_layer, storage_ledger
from resmoe_lab.scoring.calibration import calibration_requests
from resmoe_lab.scoring.score_cache import ScoreCache
from resmoe_lab.scoring.scorer import TaskScorer


def _experts(model: torch.nn.Module, checkpoint: Checkpoint, layer: int) -> torch.Tensor:
    return family_of(checkpoint).from_model(model, layer).weights


def test_a_variant_s_experts_run_and_the_model_s_own_come_back(tiny: Checkpoint) -> None:
    stack = load_stack(tiny, layer=2)
    center = find_center(stack)
    with VariantRunner(tiny, layers=[2, 3]) as runner:
        model, _ = runner.loaded
        compressed = compress_layer(stack, method="resmoe-up", keep=0.5, center=center)
        for variant, expected in (
            (runner.original, stack.weights),
            (runner.center_only, center.matrix.bfloat16().float().expand_as(stack.weights)),
            (runner.variant("resmoe-up", {2: 0.5, 3: 0.1}), compressed.restore()),
        ):
            with runner.running(variant) as (running, _):
                assert running is model
                weights = _experts(model, tiny, 2)
                assert torch.equal(weights, torch.stack([expected[k] for k in range(len(weights))]))
            assert torch.equal(_experts(model, tiny, 2), stack.weights)


def test_nothing_is_loaded_for_what_is_cached(tiny: Checkpoint, tmp_path: Path) -> None:
    scorer = TaskScorer(["storyworld_action"], limit=2, cache=ScoreCache(tmp_path))
    with VariantRunner(tiny, layers=[3]) as runner:
        first = runner.score(runner.variant("resmoe-up"), scorer)
    with VariantRunner(tiny, layers=[3]) as runner:
        again = runner.score(runner.variant("resmoe-up"), scorer)
        assert "loaded" not in vars(runner)
    assert [result.cached for result in (first["storyworld_action"], again["storyworld_action"])] == [False, True]
    assert first["storyworld_action"].outcomes[0].scores == again["storyworld_action"].outcomes[0].scores


def test_whatever_decides_the_weights_is_in_the_key(tiny: Checkpoint, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Some words. " * 50)
    options = [
        {}, {"layers": [3]}, {"seed": 1}, {"center": "average"}, {"calibration": str(text)},
        {"calibration": str(text), "tokens": 8},
    ]  # fmt: skip
    runners = [VariantRunner(tiny, **one) for one in options]
    keys = [runner.cache_key(runner.variant("resmoe-up")) for runner in runners]
    text.write_text("Other words. " * 50)
    keys += [runners[4].cache_key(runners[4].variant("resmoe-up")), runners[0].cache_key(runners[0].variant("up"))]
    keys += [runners[0].cache_key(runners[0].center_only), runners[0].cache_key(runners[0].variant("up", 0.5))]
    paths = {ScoreCache(tmp_path).path(key) for key in keys}
    assert len(paths) == len(keys)
    assert len({str(runner.cache_key(runner.original)) for runner in runners}) == 1


def test_routing_is_that_of_all_layers_after_scoring(tiny: Checkpoint, tmp_path: Path) -> None:
    """Layers whose activations are cached are not skipped where their routers are asked."""
    with VariantRunner(tiny, layers=[3], calibration="storyworld_perplexity", tokens=300) as runner:
        requests = calibration_requests(*runner.loaded, tokens=300)
        before = runner.routing_shares(requests)
        for _ in range(2):
            with runner.running(runner.variant("resmoe-up")) as (model, _), torch.no_grad():
                for request in requests:
                    model(torch.tensor([[*request.context, *request.continuation]]), use_cache=False)
        assert runner.routing_shares(requests).equals(before)


def test_what_cannot_run_is_refused_early(tiny: Checkpoint) -> None:
    with pytest.raises(UsageError, match="layer 9 has no experts"):
        VariantRunner(tiny, layers=[9])
    with pytest.raises(UsageError, match="unknown center"):
        VariantRunner(tiny, center="middle")
    runner = VariantRunner(tiny)
    with pytest.raises(UsageError, match="'resmoe-up-aware' needs calibration text"):
        runner.variant("resmoe-up-aware")
    for keep in (0.0, {0: 0.5, 1: 1.5}):
        with pytest.raises(UsageError, match="keep"):
            runner.variant("up", keep)
    with pytest.raises(UsageError, match="equal is 'size'"):
        runner.variants(["up"], equal="size")


def test_a_coded_variant_that_ran_is_not_coded_again_for_its_bytes(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = load_stack(tiny, layer=3)
    expected = storage_ledger(compress_layer(stack, method="coded", keep=0.25)).true_bytes
    with VariantRunner(tiny, layers=[3]) as runner:
        variant = runner.variant("coded", 0.25)
        with runner.running(variant):
            pass
        monkeypatch.setattr(METHODS["coded"].method, "compress", None)
        assert runner.stored_bytes(variant)[0] == expected
