"""Charts of what compression does to tokens and to routing."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from resmoe_lab import plots
from resmoe_lab.plots.live import routing_figure
from resmoe_lab.plots.offline import chart_html


def test_every_token_has_a_bar() -> None:
    rows = [(0, "<b>", 0.5, " a", " b"), (1, " c", 0.1, " d", " d")]
    columns = ["token", "text", "kl", "original_next", "compressed_next"]
    chart = plots.token_divergence(pd.DataFrame(rows, columns=columns))
    assert [row["kl"] for row in chart.to_dict()["data"]["values"]] == [0.5, 0.1]
    assert "0.3 nats a token on average" in chart_html(chart)
    assert "<b>" not in chart_html(chart)


def test_a_router_that_is_no_matrix_has_no_bar_of_its_gate() -> None:
    shift = pd.DataFrame({"layer": [0, 1], "rerouted": [0.25, 0.5], "moved": [0.1, 0.2], "gate_kl": [0.1, math.nan]})
    rows = plots.routing_shift(shift).to_dict()["data"]["values"]
    assert [row["gate_kl"] for row in rows] == [0.1, None]
    assert [row["rerouted"] for row in rows] == [0.25, 0.5]


def test_moves_are_written_into_small_matrices() -> None:
    shift = pd.DataFrame({"layer": [3, 5], "rerouted": [0.25, 0.5], "gate_kl": [0.1, 0.2]})
    moves = np.array([[7, 0], [1, 3]])

    def numbers(figure: Figure) -> list[str]:
        return [text.get_text() for text in figure.axes[2].texts]

    assert numbers(routing_figure(shift, moves, layer=5)) == ["7", "1", "3"]
    assert numbers(routing_figure(shift, np.eye(40, dtype=int), layer=5)) == []
