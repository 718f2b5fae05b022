"""The diagnosis, drawn: what a reader sees is the table's."""

from collections.abc import Callable

import pandas as pd

from resmoe_lab import plots

Texts = Callable[..., list[str]]


def test_gains_name_centers_layers_and_chance(texts: Texts) -> None:
    rows = [
        (layer, center, gain, 0.125) for layer in (0, 3) for center, gain in (("average", 0.2), ("wasserstein", 0.7))
    ]
    seen = texts(plots.gain_bars(pd.DataFrame(rows, columns=["layer", "center", "gain", "by_chance"])))
    assert {"0", "3", "average", "wasserstein", "unrelated experts: 12.5%"} <= set(seen)


def test_spectra_have_a_panel_a_layer(texts: Texts) -> None:
    rows = [
        (layer, matrix, share, 1 - share)
        for layer in (1, 5)
        for matrix in ("expert", "residual")
        for share in (0.1, 0.5)
    ]
    seen = texts(plots.spectrum_lines(pd.DataFrame(rows, columns=["layer", "matrix", "rank_share", "left"])))
    assert {"1", "5", "expert", "residual"} <= set(seen)
