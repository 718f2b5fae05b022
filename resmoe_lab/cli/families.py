"""The verb that tells which model families can be read."""

from __future__ import annotations

from typing import Any

from ._app import app
from ._options import Json
from ._output import show, show_table


@app.command
def families(*, json: Json = False) -> None:
    """List the model types whose experts are read: by a family of their own, or as transformers describes them."""
    from ..experts import FAMILIES, described_types

    by_hand = {kind: name for name in FAMILIES.names() for kind in FAMILIES[name].model_types}
    rows: list[dict[str, Any]] = [
        {"model_type": kind, "family": by_hand.get(kind, "derived")} for kind in sorted({*by_hand, *described_types()})
    ]
    show({"families": rows}, json, lambda: show_table("Model types", rows))
