"""Granite MoE: gated experts, fused on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._base import FAMILIES, Family
from ._layout import Part, Shape, config_int


@FAMILIES.register("granite")
class Granite(Family):
    """Granite MoE: ``input_linear`` (gate over up) holds all experts of a layer, on disk as well as in memory."""

    name = "granite"
    model_types = ("granitemoe",)
    block = "model.layers.{layer}.block_sparse_moe"
    parts = (
        Part("w1", "input_linear.weight", half=0),
        Part("w3", "input_linear.weight", half=1),
        Part("w2", "output_linear.weight", transposed=True),
    )
    router = "router.layer.weight"
    module = "model.layers.{layer}.block_sparse_moe"
    module_router = "router"

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """Return the sizes that a Granite MoE config."""
        return Shape(
            num_experts=config_int(config, "num_local_experts"),
            hidden_size=config_int(config, "hidden_size"),
            intermediate_size=config_int(config, "intermediate_size"),
            top_k=config_int(config, "num_experts_per_tok"),
        )
