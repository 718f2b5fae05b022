"""The ablation panel says what the library measures."""

from __future__ import annotations

import pandas as pd
import pytest

from resmoe_lab import workbench
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.experiments.expert_ablation import ablate_experts
from resmoe_lab.experiments.runner import VariantRunner
from resmoe_lab.plots.offline import chart_html

from .conftest import PATIENCE, check_files


def test_it_shows_every_expert_both_ways(tiny: Checkpoint) -> None:
    panel = workbench.ablation(tiny, tokens=64).wait(PATIENCE)
    table = panel.view.ablation
    assert len(table) == 2 * 4 * 8
    with VariantRunner(tiny) as runner:
        expected = ablate_experts(runner, replaced_by=["off", "center"], tokens=64)
    pd.testing.assert_frame_equal(table, expected, rtol=1e-4, atol=1e-7)
    worst = table[table["replaced_by"] == "off"].nlargest(1, "kl").iloc[0]
    assert f"expert {worst['expert']} of layer {worst['layer']}" in panel.message.value
    check_files(panel)
    assert "Expert replaced by the center" in chart_html(panel.freeze()["ablation"])
    picture = bytes(panel.pictures["ablation"].png)
    panel.selection.layer = 2
    panel.wait(PATIENCE)
    assert bytes(panel.pictures["ablation"].png) != picture, "the layer is marked"


def test_a_text_of_ones_own_takes_the_place_of_the_tasks(tiny: Checkpoint) -> None:
    passage = "Olive put the small drum in the basket. <b>Peter</b> was proud of it."
    panel = workbench.ablation(tiny, tokens=64, passage=passage).wait(PATIENCE)
    with VariantRunner(tiny) as runner:
        expected = ablate_experts(runner, replaced_by=["off", "center"], tokens=64, passage=passage)
    pd.testing.assert_frame_equal(panel.view.ablation, expected, rtol=1e-4, atol=1e-7)
    assert "On your text, the model misses" in panel.message.value
    assert "<b>Peter" not in panel.message.value
    assert repr(passage) in panel.save.code
    before = panel.view.ablation["original_perplexity"].iloc[0]
    panel.passage.value = "  "
    panel.wait(PATIENCE)
    assert "On storyworld_perplexity, the model misses" in panel.message.value
    assert panel.view.ablation["original_perplexity"].iloc[0] != pytest.approx(before)
