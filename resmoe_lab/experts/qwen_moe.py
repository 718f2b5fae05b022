"""Qwen2-MoE and Qwen3-MoE: fine-grained gated experts; Qwen2 also has a gated shared expert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._base import FAMILIES, Family
from ._layout import GATED_PARTS, Shape, config_int


@FAMILIES.register("qwen-moe")
class QwenMoe(Family):
    """Layers that the config lists as ``mlp_only`` are dense, and the shared expert is not compressed."""

    name = "qwen-moe"
    model_types = ("qwen2_moe", "qwen3_moe")
    parts = GATED_PARTS
    other_tensors = r"shared_expert\.(gate|up|down)_proj\.weight|shared_expert_gate\.weight"
    dense_tensors = r"(gate|up|down)_proj\.weight"

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """Return the sizes that a Qwen config; its ``intermediate_size`` is that of the dense layers."""
        return Shape(
            num_experts=config_int(config, "num_experts", "num_local_experts"),
            hidden_size=config_int(config, "hidden_size"),
            intermediate_size=config_int(config, "moe_intermediate_size"),
            top_k=config_int(config, "num_experts_per_tok"),
        )
