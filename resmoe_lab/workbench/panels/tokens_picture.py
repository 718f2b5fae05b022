"""A text drawn token by token in the browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from ... import plots

_FRONTEND = Path(plots.__file__).parent


class TokensPicture(anywidget.AnyWidget):
    """The tokens of a text, coloured; one that is chosen tells what both models predict there.

    Parameters
    ----------
    chosen
        Called with the number of a token when it is chosen; what it returns of the layers is shown below.
    """

    _esm = _FRONTEND / "tokens.js"
    _css = _FRONTEND / "tokens.css"
    data = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)

    def __init__(self, chosen: Callable[[int], None]) -> None:
        super().__init__()
        self._chosen = chosen
        self.on_msg(self._on_message)

    def tell_layers(self, lens: Mapping[int, Any]) -> None:
        """Show what both models would predict at some tokens if they stopped after each layer."""
        self.send({"lens": {str(token): rows for token, rows in lens.items()}})

    def _on_message(self, _: Any, content: Any, buffers: Any) -> None:
        token = content.get("token") if isinstance(content, dict) else None
        if isinstance(token, int):
            self._chosen(token)
