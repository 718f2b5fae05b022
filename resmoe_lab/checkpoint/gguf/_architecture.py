"""What is declared of an architecture of GGUF."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Setting of a ``config.json`` -> its key below the architecture's name in the metadata.
_SETTINGS = {
    "max_position_embeddings": "context_length",
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "num_experts_per_tok": "expert_used_count",
}
_ENDS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_ATTENTION = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
_PROJECTIONS = {name: f"mlp.experts.{{k}}.{name}_proj.weight" for name in ("gate", "up", "down")}


@dataclass(frozen=True)
class Fused:
    """A tensor of all experts that a checkpoint holds, made of one or two of GGUF's.

    Parameters
    ----------
    name
        Its name below the layer.
    layout
        How it is put together, see :data:`~resmoe_lab.checkpoint.codecs.gguf.LAYOUTS`.
    """

    name: str
    layout: str


@dataclass(frozen=True)
class Architecture:
    """One architecture, in both languages.

    Parameters
    ----------
    name
        GGUF's.
    model_type, model_class
        transformers'.
    settings
        Setting of a ``config.json`` -> its key in the metadata, beside those that all have.
    fixed
        Settings that llama.cpp does not ask for: it computes all models of this architecture in one way.
    blocks
        Modules below a layer, beside attention: GGUF's name -> transformers'.
    experts
        The matrices of each expert: ``gate``, ``up``, ``down`` -> the name below the layer, with ``{k}``.
    fused
        Tensors of all experts together: names in GGUF -> what they become.
    rotary
        Whether the rows of queries and keys are in the order in which neighbours are rotated.
    width, widths
        The setting that holds the experts' width, and those of other widths -> a tensor that has as many columns.
    biases
        The setting that says whether queries, keys and values have biases.
    optional
        Settings that a file may leave out.
    rotary_fixed
        What llama.cpp does not ask for about rotary angles.
    grouped
        Whether llama.cpp runs it with fewer key heads than query heads.
    absent
        What settings are whose keys a file leaves out.
    gating
        How routers turn logits into weights: 1 for softmax, 2 for sigmoid.
    partial
        Whether some dimensions of a head may stay as they are while the others are rotated.
    qk_norms
        The setting that says whether queries and keys are normalized.
    latent
        Whether keys and values come from a latent vector of low rank.
    written
        Whether models are written as this architecture too.
    """

    name: str
    model_type: str
    model_class: str
    settings: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    blocks: Mapping[str, str] = field(default_factory=dict)
    experts: Mapping[str, str] = field(default_factory=lambda: _PROJECTIONS)
    fused: Mapping[tuple[str, ...], Fused] = field(default_factory=dict)
    rotary: bool = False
    width: str = "moe_intermediate_size"
    widths: Mapping[str, str] = field(default_factory=dict)
    biases: str = "attention_bias"
    optional: tuple[str, ...] = ()
    rotary_fixed: Mapping[str, Any] = field(default_factory=dict)
    grouped: bool = True
    absent: Mapping[str, Any] = field(default_factory=dict)
    gating: int = 1
    partial: bool = False
    qk_norms: str = ""
    latent: bool = False
    written: bool = True

    @property
    def all_settings(self) -> dict[str, str]:
        """Setting of a ``config.json`` -> its key in the metadata."""
        return {**_SETTINGS, **self.settings}

    @property
    def all_blocks(self) -> dict[str, str]:
        """Modules below a layer: GGUF's name -> transformers'."""
        return {**_ATTENTION, **self.blocks}

    @property
    def begins_dense(self) -> bool:
        """Whether its first layers may have one feed-forward network instead of experts."""
        return "leading_dense_block_count" in self.settings.values()

    @property
    def ends(self) -> dict[str, str]:
        """Modules that are in no layer."""
        return _ENDS
