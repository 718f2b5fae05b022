"""OLMoE: gated experts in every layer, without shared experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._base import FAMILIES, Family
from ._layout import GATED_PARTS, Shape, config_int


@FAMILIES.register("olmoe")
class Olmoe(Family):
    """OLMoE; unlike in Qwen's configs, ``intermediate_size`` is that of one expert."""

    name = "olmoe"
    model_types = ("olmoe",)
    parts = GATED_PARTS

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """Return the sizes that an OLMoE config."""
        return Shape(
            num_experts=config_int(config, "num_experts", "num_local_experts"),
            hidden_size=config_int(config, "hidden_size"),
            intermediate_size=config_int(config, "intermediate_size"),
            top_k=config_int(config, "num_experts_per_tok"),
        )
