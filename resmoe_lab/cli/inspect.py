"""The verb that tells what a checkpoint is."""

from __future__ import annotations

from ._app import app
from ._options import Json
from ._output import show, show_facts


@app.command
def inspect(checkpoint: str, *, json: Json = False) -> None:
    """Tell a checkpoint's family, layers, shapes and bytes without loading a tensor."""
    from dataclasses import asdict

    from ..checkpoint import open_checkpoint
    from ..experts import family_of

    opened = open_checkpoint(checkpoint)
    family = family_of(opened)
    if opened.packed:
        from ..runtime.packable import expert_bytes

        sizes = expert_bytes(opened)
    else:
        sizes = {layer: family.expert_bytes(opened, layer) for layer in family.layers(opened)}
    facts: dict[str, object] = {
        "checkpoint": opened.name,
        "family": family.name,
        "moe_layers": list(sizes),
        "packed": opened.packed,
    }
    facts |= {**asdict(family.shape(opened.config)), "total_bytes": opened.total_bytes}
    stored, shape = sum(sizes.values()), family.shape(opened.config)
    weights = len(sizes) * shape.num_experts * shape.intermediate_size * family.blocks(shape.hidden_size)[-1].stop
    facts |= {"expert_bytes": stored, "bits_per_weight": round(8 * stored / weights, 4) if weights else None}
    facts["encodings"] = opened.encodings
    show(facts, json, lambda: show_facts(facts))
