"""Llama 4's text model: gated experts, fused and transposed, and a shared expert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

from torch import nn

from ._base import FAMILIES, Family
from ._layout import Part, Shape, config_int
from ._running import not_packable

_PARTS = (
    Part("w1", "gate_up_proj", transposed=True, half=0),
    Part("w3", "gate_up_proj", transposed=True, half=1),
    Part("w2", "down_proj"),
)


@FAMILIES.register("llama4")
class Llama4(Family):
    """The text model alone (``llama4_text``); layers that the config does not list as MoE are dense."""

    name = "llama4"
    model_types = ("llama4_text",)
    block = "model.layers.{layer}.feed_forward"
    parts = tuple(replace(part, key=f"experts.{part.key}") for part in _PARTS)
    router = "router.weight"
    other_tensors = r"shared_expert\.(gate|up|down)_proj\.weight"
    dense_tensors = r"(gate|up|down)_proj\.weight"
    module = "model.layers.{layer}.feed_forward"
    module_parts = _PARTS
    module_router = "router"

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """Return the sizes that a Llama 4 text config; dense layers have ``intermediate_size_mlp``."""
        return Shape(
            num_experts=config_int(config, "num_local_experts"),
            hidden_size=config_int(config, "hidden_size"),
            intermediate_size=config_int(config, "intermediate_size"),
            top_k=config_int(config, "num_experts_per_tok"),
        )

    def activation(self, module: nn.Module) -> NoReturn:
        """Refuse packing: its experts take tokens that are sorted by expert."""
        raise not_packable(module)
