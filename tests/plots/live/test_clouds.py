"""Live pictures of clouds: every cloud is there, all on one scale."""

from __future__ import annotations

import numpy as np

from resmoe_lab.plots.live import clouds_figure, drift_figure
from resmoe_lab.plots.raster import figure_bytes


def test_every_cloud_has_its_own_place_on_one_scale() -> None:
    random = np.random.default_rng(0)
    clouds = [random.standard_normal((50, 2)) + shift for shift in (0, 3)]
    figure = clouds_figure(clouds, random.standard_normal((40, 2)), title="barycenter")
    assert [len(axis.collections[0].get_offsets()) for axis in figure.axes] == [50, 50, 40]
    assert len({axis.get_xlim() for axis in figure.axes}) == 1
    assert figure.axes[-1].get_title() == "barycenter" or figure.axes[-1].get_title(loc="left") == "barycenter"
    assert figure_bytes(drift_figure([1, 2], [0.1, 0.01])).startswith(b"\x89PNG")
