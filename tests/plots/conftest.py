"""Charts as pictures: the text that a reader would see."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
import vl_convert

from resmoe_lab.experiments.sweep import Sweep

from .synthetic import make_sweep


@pytest.fixture(scope="session")
def sweep() -> Sweep:
    return make_sweep()


@pytest.fixture(scope="session")
def texts() -> Callable[..., list[str]]:
    """Draw a chart with its sliders at the given values and return every text in it."""

    def draw(chart: Any, **signals: float) -> list[str]:
        spec = chart.to_dict()
        for param in spec.get("params", []):
            if param["name"] in signals:
                param["value"] = signals[param["name"]]
        svg = vl_convert.vegalite_to_svg(spec, vl_version="6.4")
        return [unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]

    return draw
