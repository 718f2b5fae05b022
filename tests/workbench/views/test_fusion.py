from __future__ import annotations

from pathlib import Path

import pytest

from resmoe_lab.fusion import FUSED, VANILLA, Images
from resmoe_lab.workbench.views import view_fusion

from ...conftest import data_or_skip
from ...fusion.conftest import digits as digits


def test_the_published_networks_have_the_published_figures(digits: Images) -> None:
    files: list[Path] = [data_or_skip(f"otfusion_mnist_models/model_{index}/final.checkpoint") for index in (0, 1)]
    view = view_fusion(*files)
    at = view.at(0.5).round(2)
    assert (at["A"], at["B"], at["ensemble"], at[VANILLA], at[FUSED]) == (97.72, 97.75, 97.88, 73.84, 96.63)
    assert view.at(0.0)[FUSED] == pytest.approx(97.72)
    assert view.tables()["costs"]["layer"].tolist() == ["fc1", "fc2", "fc3"]
    assert view.at(0.5, label="4")[FUSED] > view.at(0.5, label="4")[VANILLA]
