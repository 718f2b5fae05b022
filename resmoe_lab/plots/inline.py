"""The pictures of the panels that are drawn in the browser, as parts of a page that needs no kernel and no network."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .offline import script_json

_HERE = Path(__file__).parent


def tokens_html(data: Mapping[str, Any]) -> str:
    """Return the picture of a text's tokens: see ``TokensView.data`` of the workbench."""
    return _inline("tokens", "drawTokens", data)


def map_html(data: Mapping[str, Any]) -> str:
    """Return the map of a checkpoint: see ``MapView.data`` of the workbench."""
    return _inline("modelmap", "drawMap", data)


def _inline(file: str, function: str, data: Mapping[str, Any]) -> str:
    name = f"resmoe-{uuid.uuid4().hex}"
    call = f'{function}(document.getElementById("{name}"), {script_json(dict(data))});'
    script = f'<script type="module">{_source(file, "js")}\n{call}</script>'
    return f'<style>{_source(file, "css")}</style>\n<div id="{name}" class="resmoe-inline"></div>\n{script}'


@cache
def _source(file: str, suffix: str) -> str:
    return (_HERE / f"{file}.{suffix}").read_text("utf-8")
