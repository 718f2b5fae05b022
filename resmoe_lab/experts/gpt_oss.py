"""gpt-oss: gated experts with biases, fused and transposed, with gate and up interleaved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

from torch import nn

from ._base import FAMILIES, Family
from ._layout import Part, Shape, config_int
from ._running import not_packable

_PARTS = (
    Part("w1", "gate_up_proj", transposed=True, half=0, interleaved=True),
    Part("b1", "gate_up_proj_bias", half=0, interleaved=True, vector=True),
    Part("w3", "gate_up_proj", transposed=True, half=1, interleaved=True),
    Part("b3", "gate_up_proj_bias", half=1, interleaved=True, vector=True),
    Part("w2", "down_proj"),
)


@FAMILIES.register("gpt-oss")
class GptOss(Family):
    """gpt-oss in 16 or 32 bit; the hub's MXFP4 files are refused by their config.

    ``down_proj_bias`` belongs to outputs, not to neurons, so it is not part of the design matrix and is not compressed.
    """

    name = "gpt-oss"
    model_types = ("gpt_oss",)
    parts = tuple(replace(part, key=f"experts.{part.key}") for part in _PARTS)
    router = "router.weight"
    other_tensors = r"router\.bias|experts\.down_proj_bias"
    module_parts = _PARTS
    module_router = "router"

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """Return the sizes that a gpt-oss config."""
        return Shape(
            num_experts=config_int(config, "num_local_experts", "num_experts"),
            hidden_size=config_int(config, "hidden_size"),
            intermediate_size=config_int(config, "intermediate_size"),
            top_k=config_int(config, "num_experts_per_tok", "experts_per_token"),
        )

    def activation(self, module: nn.Module) -> NoReturn:
        """Refuse packing: its experts clamp the gate and add 1 to the up-projection."""
        raise not_packable(module)
