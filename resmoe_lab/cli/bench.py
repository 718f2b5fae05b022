"""The verb that measures speed and memory."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ._app import app
from ._options import Json, Seed, several, split_names
from ._output import progress_bar, show, show_table


@app.command
def bench(
    checkpoint: str,
    *,
    ways: Annotated[list[str] | None, several("original, restored, factored; all that there are if not given.")] = None,
    original: Annotated[str | None, Parameter(help="The original, where the manifest does not tell.")] = None,
    prompt: Annotated[int, Parameter(help="Tokens of the prompt.")] = 128,
    new: Annotated[int, Parameter(help="Tokens that are generated.")] = 16,
    rounds: Annotated[int, Parameter(help="How often; medians are shown.")] = 3,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measure speed and memory of a packed checkpoint, restored and factored, and of its original."""
    from dataclasses import asdict

    from ..checkpoint import open_checkpoint
    from ..runtime.bench import bench

    with progress_bar() as progress:
        measured = bench(
            open_checkpoint(checkpoint),
            ways=split_names(ways),
            original=original,
            prompt=prompt,
            new=new,
            rounds=rounds,
            seed=seed,
            progress=progress,
        )
    rows = [asdict(row) for row in measured]
    show({"checkpoint": checkpoint, "rows": rows}, json, lambda: show_table(f"Bench of {checkpoint}", rows))
