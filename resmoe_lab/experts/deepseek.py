"""DeepSeekMoE, DeepSeek-V2 and V3: many small gated experts, shared experts, first layers dense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._base import FAMILIES, Family
from ._layout import GATED_PARTS, Shape, config_int


@FAMILIES.register("deepseek")
class DeepSeek(Family):
    """Three generations with one layout; shared experts, dense layers and V3's prediction layer are not compressed.

    DeepSeekMoE-16B (``model_type: deepseek``) is read like the others, without running the code in its folder.
    transformers 5 cannot run it; :func:`~resmoe_lab.checkpoint.conversion.deepseek_as_qwen2` converts it.
    """

    name = "deepseek"
    model_types = ("deepseek", "deepseek_v2", "deepseek_v3")
    parts = GATED_PARTS
    other_tensors = r"shared_experts\.(gate|up|down)_proj\.weight|gate\.e_score_correction_bias"
    dense_tensors = r"(gate|up|down)_proj\.weight"

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """Return the sizes that a DeepSeek config; its ``intermediate_size`` is that of the dense layers."""
        return Shape(
            num_experts=config_int(config, "n_routed_experts", "num_local_experts"),
            hidden_size=config_int(config, "hidden_size"),
            intermediate_size=config_int(config, "moe_intermediate_size"),
            top_k=config_int(config, "num_experts_per_tok"),
        )
