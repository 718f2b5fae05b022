"""The verb that rewrites a checkpoint for a family that transformers can open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ._app import app
from ._options import Json
from ._output import show, show_facts


@app.command
def convert(
    checkpoint: str, *, out: Annotated[Path, Parameter(help="Folder of the result.")], json: Json = False
) -> None:
    """Write a DeepSeekMoE checkpoint, which transformers cannot open, as a Qwen2-MoE one that computes the same."""
    from ..checkpoint import open_checkpoint
    from ..checkpoint.conversion import deepseek_as_qwen2

    folder = deepseek_as_qwen2(open_checkpoint(checkpoint), out)
    facts = {"path": str(folder), "model_type": "qwen2_moe", "bytes": open_checkpoint(folder).total_bytes}
    show(facts, json, lambda: show_facts(facts))
