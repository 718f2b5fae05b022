"""Switch Transformers: ReLU experts of two matrices, in the encoder and in the decoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from .._core.errors import CheckpointError
from ._base import FAMILIES, Family
from ._layout import Part, Shape, config_int

#: The feed-forward sublayer of a block, after self-attention and, in the decoder, cross-attention.
_SUBLAYER = {"encoder": 1, "decoder": 2}


@FAMILIES.register("switch")
class Switch(Family):
    """Layer i is the encoder's block i, layer ``num_layers + i`` the decoder's; names in memory are those on disk.

    The experts have no biases; a checkpoint with biases is refused by their names, and the gated variant
    (``dense_act_fn`` other than ReLU) by its config.
    """

    name = "switch"
    model_types = ("switch_transformers",)
    block = "encoder.block.{layer}.layer.1.mlp"
    parts = (
        Part("w1", "experts.expert_{k}.wi.weight"),
        Part("w2", "experts.expert_{k}.wo.weight", transposed=True),
    )
    router = "router.classifier.weight"
    other_tensors = r"router\.classifier\.bias"
    dense_tensors = r"w[io]\.weight"
    module_parts = (
        Part("w1", "expert_{k}.wi.weight"),
        Part("w2", "expert_{k}.wo.weight", transposed=True),
    )
    module_router = "router.classifier"
    routes_by_mask = True

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """Return the sizes that a Switch config declares; every token goes to one expert."""
        activation = config.get("dense_act_fn", "relu")
        if activation != "relu":
            raise CheckpointError(f"config.json has dense_act_fn = {activation!r}, expected 'relu': not supported")
        return Shape(
            num_experts=config_int(config, "num_experts"),
            hidden_size=config_int(config, "d_model"),
            intermediate_size=config_int(config, "d_ff"),
            top_k=1,
        )

    def prefix(self, layer: int) -> str:
        """Return the tensor-name prefix of a layer's MoE block, in the encoder or the decoder."""
        encoders = config_int(self.config, "num_layers")
        stack, index = ("encoder", layer) if layer < encoders else ("decoder", layer - encoders)
        return f"{stack}.block.{index}.layer.{_SUBLAYER[stack]}.mlp"

    def locate(self, name: str) -> tuple[int, str] | None:
        """Return the layer and the remaining name of a tensor in an MoE block's place, None for other tensors."""
        match = re.fullmatch(r"(encoder|decoder)\.block\.(\d+)\.layer\.(\d+)\.mlp\.(.+)", name)
        if not match or int(match[3]) != _SUBLAYER[match[1]]:
            return None
        offset = 0 if match[1] == "encoder" else config_int(self.config, "num_layers")
        return offset + int(match[2]), match[4]

    def module_name(self, layer: int) -> str:
        """Return the name of a layer's MoE block in a running transformers model, as on disk."""
        return self.prefix(layer)

    def activation(self, module: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return the activation function of a layer's experts, which are modules of their own."""
        return next(iter(module.children())).act  # type: ignore[return-value]

    def _num_layers(self) -> int:
        encoders = config_int(self.config, "num_layers")
        return encoders + config_int({"num_decoder_layers": encoders} | dict(self.config), "num_decoder_layers")
