"""The way back: what a checkpoint's tensors and settings are called in GGUF."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..._core.errors import UsageError
from .architectures import ARCHITECTURES, Architecture

_IN_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
#: Settings that llama.cpp reads as floats, though a config may have whole numbers there.
_FLOATS = {
    *("attention.layer_norm_rms_epsilon", "attention.scale", "attention.clamp_kqv"),
    *("embedding_scale", "residual_scale", "logit_scale", "expert_weights_scale"),
}
_SCALING = {
    "factor": "factor",
    "original_max_position_embeddings": "original_context_length",
    "beta_fast": "yarn_beta_fast",
    "beta_slow": "yarn_beta_slow",
    "attention_factor": "yarn_attn_factor",
}
_ADVICE = "export dense, and convert that with llama.cpp's convert_hf_to_gguf.py"


def written_architecture(model_type: str) -> Architecture:
    """Return the architecture that models of a type are written as.

    Raises
    ------
    UsageError
        If there is none.
    """
    for architecture in ARCHITECTURES.values():
        if architecture.model_type == model_type and architecture.written:
            return architecture
    known = ", ".join(architecture.model_type for architecture in ARCHITECTURES.values() if architecture.written)
    raise UsageError(f"model_type {model_type!r} cannot be written as GGUF, expected one of {known}: {_ADVICE}")


@dataclass(frozen=True)
class Placed:
    """Where a tensor that belongs to no stack of experts goes.

    Parameters
    ----------
    name
        GGUF's name.
    heads
        How many heads its rows belong to, if their order changes.
    """

    name: str
    heads: int | None = None

    @property
    def small(self) -> bool:
        """Whether llama.cpp wants it in 32 bits whatever the others are in."""
        return self.name.endswith(("norm.weight", ".bias", "attn_sinks.weight")) or "ffn_gate_inp" in self.name

    def ordered(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor in GGUF's order."""
        if self.heads is None:
            return tensor.squeeze(0) if "ffn_gate_inp_shexp" in self.name else tensor
        return tensor.view(self.heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def placed(architecture: Architecture, name: str, config: Mapping[str, Any]) -> Placed:
    """Return where a tensor that belongs to no stack of experts goes.

    Raises
    ------
    UsageError
        If GGUF has no place for it.
    """
    match = _IN_LAYER.fullmatch(name)
    modules = architecture.all_blocks if match else architecture.ends
    rest, prefix = (match[2], f"blk.{match[1]}.") if match else (name, "")
    for roles, fused in architecture.fused.items():
        if fused.name == rest and fused.layout == "whole":
            return Placed(prefix + roles[0])
    back = {theirs: ours for ours, theirs in modules.items()}
    stem, _, suffix = rest.rpartition(".")
    if rest in back:
        return Placed(prefix + back[rest])
    if stem not in back:
        raise UsageError(f"tensor {name!r} has no place in GGUF's architecture {architecture.name}: {_ADVICE}")
    target = back[stem]
    heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}.get(target)
    turned = config[heads] if heads and architecture.rotary else None
    return Placed(f"{prefix}{target}.{suffix}", turned)


def gguf_settings(architecture: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the metadata say of a model's sizes and of how it computes.

    Parameters
    ----------
    architecture
        What it is written as.
    config
        All settings, those at their defaults included.

    Raises
    ------
    UsageError
        If llama.cpp computes models of this architecture in another way.
    """
    _check_settings(architecture, config)
    values: dict[str, Any] = {}
    for setting, key in architecture.all_settings.items():
        value = config.get(setting, architecture.absent.get(setting))
        if value is None and setting not in architecture.optional:
            raise UsageError(f"config.json has no {setting}, which GGUF has to tell: {_ADVICE}")
        if value is not None:
            values[key] = float(value) if key in _FLOATS else value
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or config["hidden_size"] // heads
    rotary = config.get("rope_parameters") or {}
    part = rotary.get("partial_rotary_factor") if architecture.partial else None
    values |= {"vocab_size": config["vocab_size"], "rope.dimension_count": round(head * (part or 1.0))}
    if architecture.gating != 1:
        values["expert_gating_func"] = architecture.gating
    if head * heads != config["hidden_size"] or "head_dim" in architecture.settings:
        values |= {"attention.key_length": head, "attention.value_length": head}
    values["feed_forward_length"] = config.get("intermediate_size") or config[architecture.width]
    values["expert_feed_forward_length"] = config[architecture.width]
    if "shared_expert_intermediate_size" in architecture.widths:
        values["expert_shared_feed_forward_length"] = config["shared_expert_intermediate_size"]
    values |= _rotary(architecture, rotary)
    return {f"{architecture.name}.{key}": value for key, value in values.items()}


def _check_settings(architecture: Architecture, config: Mapping[str, Any]) -> None:
    required = {"hidden_act": "silu", **architecture.fixed}
    if isinstance(kinds := config.get("layer_types"), list) and "sliding_attention" in kinds:
        required["layer_types"] = [("sliding_attention", "full_attention")[n % 2] for n in range(len(kinds))]
    if not architecture.grouped:
        required["num_key_value_heads"] = config["num_attention_heads"]
    for setting, value in required.items():
        found = config.get(setting, value)
        if found != value:
            raise UsageError(
                f"config.json has {setting} = {found!r}, and llama.cpp computes {architecture.name} models with "
                f"{value!r}: {_ADVICE}"
            )


def _rotary(architecture: Architecture, parameters: Mapping[str, Any]) -> dict[str, Any]:
    kind = parameters.get("rope_type", "default")
    values: dict[str, Any] = {"rope.freq_base": float(parameters.get("rope_theta", 10000.0))}
    left = {
        name: value for name, value in parameters.items() if value is not None and name not in architecture.rotary_fixed
    }
    for name in ("rope_type", "type", "rope_theta"):
        left.pop(name, None)
    if architecture.partial or float(left.get("partial_rotary_factor", 1.0)) == 1.0:
        left.pop("partial_rotary_factor", None)
    if kind in ("linear", "yarn"):
        values["rope.scaling.type"] = kind
        for name, key in _SCALING.items():
            if name in left:
                value = left.pop(name)
                values[f"rope.scaling.{key}"] = value if key == "original_context_length" else float(value)
    if left or kind not in ("default", "linear", "yarn"):
        told = f"{kind!r}" + (f" with {', '.join(left)}" if left else "")
        raise UsageError(f"config.json scales rotary angles by {told}, expected default, linear or yarn: {_ADVICE}")
    return values
