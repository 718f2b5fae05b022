"""The diagnosis, drawn: what a reader sees is the table's."""

from collections.abc import Callable

import pandas as pd

from resmoe_lab import plots

Texts = Callable[..., list[str]]


def test_gains_name_centers_layers_and_chance(texts: Texts) -> None:
    rows = [
        (layer, center, gain, 0.125) for layer in (0, 3) for center, gain in (("average", 0.2), ("wasserstein", 0.7))
    ]
    labels = texts(plots.gain_bars(pd.DataFrame(rows, columns=["layer", "center", "gain", "by_chance"])))
    assert {"0", "3", "average", "wasserstein", "unrelated experts: 12.5%"} <= set(labels)
