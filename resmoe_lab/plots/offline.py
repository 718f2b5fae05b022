"""Charts in notebooks and reports that need no network: the vega bundle once, then a small element per chart.

Altair's own renderers fetch the bundle from the network, use a type that notebook exporters do not know, or need a
running kernel.
"""

from __future__ import annotations

import json
import re
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

_HERE = Path(__file__).parent
_VEGA_LITE = "6.4"
_NAME = "resmoe-offline"


@cache
def page_head() -> str:
    """Return the style and script that a page needs once, before its charts."""
    bundle = _for_script(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=_VEGA_LITE))
    style, embed = ((_HERE / name).read_text(encoding="utf-8") for name in ("embed.css", "embed.js"))
    # The bundle declares hundreds of one-letter names, so it runs in a function, and only once in a page.
    return f"<style>{style}</style>\n<script>if (!window.vegaEmbed) (function () {{ {bundle} }})();\n{embed}</script>"


def chart_html(chart: Any) -> str:
    """Return the element and script that draw one chart on a page that has :func:`page_head`."""
    return _chart_html(chart.to_dict())


def use_offline_renderer() -> Any:
    """Show Altair charts in this notebook without any network; returns what loads the bundle, to be shown."""
    from IPython.display import HTML

    alt.renderers.register(_NAME, lambda spec, **_: {"text/html": _chart_html(spec), "text/plain": "<chart>"})
    alt.renderers.enable(_NAME)
    return HTML(page_head())


def _chart_html(spec: dict[str, Any]) -> str:
    name = f"resmoe-{uuid.uuid4().hex}"
    spec = {"description": description(spec), **spec}
    # The attribute keeps JupyterLab from taking keys for its own shortcuts.
    # A notebook that was just opened runs this before or after the bundle, so it waits for it.
    return (
        f'<div id="{name}" class="resmoe-chart" data-lm-suppress-shortcuts="true"></div>\n'
        "<script>(function wait(turn) {\n"
        f'const element = document.getElementById("{name}");\n'
        f"if (element && window.resmoe && window.vegaEmbed) window.resmoe.draw(element, {script_json(spec)});\n"
        "else if (turn < 600) setTimeout(wait, 50, turn + 1);\n})(0);</script>"
    )


def description(spec: dict[str, Any]) -> str:
    """Return the alternative text of a chart: its titles and those of its axes."""
    titles: list[str] = []

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            title = part.get("title")
            words = [title] if isinstance(title, str) else [title.get("text"), title.get("subtitle")] if title else []
            # A title that depends on a slider is an expression; its fixed words are between quotes.
            words = [" ".join(re.findall(r"'([^']*)'", w["expr"])) if isinstance(w, dict) else w for w in words]
            titles.extend(word.strip() for word in words if isinstance(word, str) and word.strip())
            for name, inner in part.items():
                if name not in ("data", "datasets", "config", "tooltip", "params"):
                    walk(inner)
        elif isinstance(part, list):
            for inner in part:
                walk(inner)

    walk(spec)
    return "; ".join(dict.fromkeys(titles)) or "chart"


def script_json(value: Any) -> str:
    """Return JSON that cannot end the script element around it, whatever strings it holds."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _for_script(code: str) -> str:
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")
