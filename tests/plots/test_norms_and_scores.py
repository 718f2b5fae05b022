from __future__ import annotations

from resmoe_lab.experiments.sweep import Sweep
from resmoe_lab.plots import norm_bars, score_bars

from .live.test_pictures import _norms


def test_norms_and_scores_are_labelled(sweep: Sweep, texts) -> None:
    assert {"w1", "whole", "residual", "Norms of the experts, layer 0"} <= set(texts(norm_bars(_norms(3))))
    scores = sweep.scores[sweep.scores["keep"].isin([1.0, 0.25])]
    said = texts(score_bars(scores.assign(label=scores["method"])))
    assert {"original", "up", "storyworld_perplexity", "accuracy"} <= set(said)
