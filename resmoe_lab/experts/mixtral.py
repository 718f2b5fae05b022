"""Mixtral: SwiGLU experts of three matrices without biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._base import FAMILIES, Family
from ._layout import Part, Shape, config_int


@FAMILIES.register("mixtral")
class Mixtral(Family):
    """Mixtral: one tensor for each matrix of each expert on disk, fused in transformers 5."""

    name = "mixtral"
    model_types = ("mixtral",)
    block = "model.layers.{layer}.block_sparse_moe"
    parts = (
        Part("w1", "experts.{k}.w1.weight"),
        Part("w3", "experts.{k}.w3.weight"),
        Part("w2", "experts.{k}.w2.weight", transposed=True),
    )

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """Return the sizes that a Mixtral config."""
        return Shape(
            num_experts=config_int(config, "num_local_experts"),
            hidden_size=config_int(config, "hidden_size"),
            intermediate_size=config_int(config, "intermediate_size"),
            top_k=config_int(config, "num_experts_per_tok"),
        )
