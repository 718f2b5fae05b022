"""Charts of clouds carry their points and a living slider."""

from __future__ import annotations

import pandas as pd

from resmoe_lab import plots


def test_the_slider_shows_one_weight_at_a_time() -> None:
    marginals = pd.DataFrame({"distribution": ["distribution 1", "distribution 2"], "x": [0.0, 2.0], "y": [0.0, 1.0]})
    made = pd.DataFrame({"weight": [0.0, 0.5, 1.0], "x": [2.0, 1.0, 0.0], "y": [1.0, 0.5, 0.0]})
    slider = plots.cloud_slider([0.0, 0.5, 1.0], start=0.5, label="weight")
    spec = plots.barycenter_clouds(marginals, made, slider=slider).to_dict()
    around, strong = spec["layer"]
    assert [row["x"] for row in around["data"]["values"]] == [0, 2]
    assert "shown_cloud_weight" in strong["transform"][0]["filter"]
    assert any(param.get("bind", {}).get("input") == "range" for param in spec["params"])


def test_errors_and_training_are_drawn_on_logarithmic_axes() -> None:
    errors = pd.DataFrame({"solver": ["nwb", "cwb"], "dimension": [2, 2], "value": [0.02, 0.01]})
    spec = plots.error_by_dimension(errors, label="BW2-UVP").to_dict()
    assert spec["layer"][0]["encoding"]["y"]["scale"]["type"] == "log"
    history = pd.DataFrame({"step": [1, 2, 3], "drift": [0.1, 0.0, 0.01]})
    drawn = plots.training_drift(history).to_dict()
    assert [row["step"] for row in drawn["data"]["values"]] == [1, 3]
