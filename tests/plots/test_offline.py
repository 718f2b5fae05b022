from __future__ import annotations

import json

import altair as alt
import pandas as pd

from resmoe_lab.plots import offline


def test_the_bundle_is_the_version_that_altair_writes_for() -> None:
    assert alt.SCHEMA_VERSION.removeprefix("v").startswith(offline._VEGA_LITE)


def test_the_page_head_is_one_style_and_one_script() -> None:
    head = offline.page_head()
    assert head.count("<script>") == head.count("</script>") == 1
    assert head.startswith("<style>")
    assert head.endswith("</script>")
    assert 600_000 < len(head) < 1_200_000


def test_a_name_cannot_end_the_script() -> None:
    evil = "</script><script>alert(1)</script><!--"
    text = offline.script_json({"name": evil})
    assert "<" not in text
    assert json.loads(text) == {"name": evil}


def test_a_chart_is_an_element_and_its_spec() -> None:
    chart = alt.Chart(pd.DataFrame({"x": ["</script>"]})).mark_point().encode(x="x")
    html = offline.chart_html(chart)
    assert html.count("</script>") == 1
    assert 'class="resmoe-chart"' in html
    assert offline.chart_html(chart) != html, "two charts need two elements"


def test_the_renderer_answers_with_html() -> None:
    before = alt.renderers.active
    try:
        shown = offline.use_offline_renderer()
        bundle = alt.Chart(pd.DataFrame({"x": [1]})).mark_point().encode(x="x")._repr_mimebundle_()
    finally:
        alt.renderers.enable(before)
    assert shown.data == offline.page_head()
    assert "window.resmoe.draw" in bundle["text/html"]
