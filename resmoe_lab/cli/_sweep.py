"""What the verbs that make a sweep share."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def make_sweep(checkpoint: str, out: Path, layers: str, **options: Any) -> Any:
    """Run a sweep over the layers that a text names; options that are None are left to their defaults."""
    from ..checkpoint import open_checkpoint
    from ..compress import select_layers
    from ..experiments.run_sweep import run_sweep
    from ..experts import moe_layers

    opened = open_checkpoint(checkpoint)
    options = {name: value for name, value in options.items() if value is not None}
    return run_sweep(opened, out, layers=select_layers(layers, moe_layers(opened)), **options)
