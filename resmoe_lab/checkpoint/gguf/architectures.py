"""What llama.cpp calls the tensors and the settings of the models that it runs, and what transformers calls them.

transformers reads some of these files itself; what it leaves at a default (the experts' width, the scaling of rotary
angles) or does not know (Mixtral's experts) is read here.
"""

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
_QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_SHARED = {f"ffn_{name}_shexp": f"mlp.shared_expert.{name}_proj" for name in ("gate", "up", "down")}
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

    @property
    def all_settings(self) -> dict[str, str]:
        """Setting of a ``config.json`` -> its key in the metadata."""
        return {**_SETTINGS, **self.settings}

    @property
    def all_blocks(self) -> dict[str, str]:
        """Modules below a layer: GGUF's name -> transformers'."""
        return {**_ATTENTION, **self.blocks}

    @property
    def ends(self) -> dict[str, str]:
        """Modules that are in no layer."""
        return _ENDS


ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            "llama",
            "mixtral",
            "MixtralForCausalLM",
            settings={"num_local_experts": "expert_count"},
            fixed={"sliding_window": None},
            blocks={"ffn_gate_inp": "block_sparse_moe.gate"},
            experts={
                name: f"block_sparse_moe.experts.{{k}}.{stored}.weight"
                for name, stored in (("gate", "w1"), ("up", "w3"), ("down", "w2"))
            },
            rotary=True,
            width="intermediate_size",
            biases="",
        ),
        Architecture(
            "qwen2moe",
            "qwen2_moe",
            "Qwen2MoeForCausalLM",
            settings={"intermediate_size": "feed_forward_length", "num_experts": "expert_count"},
            fixed={
                "norm_topk_prob": False,
                "decoder_sparse_step": 1,
                "mlp_only_layers": [],
                "use_sliding_window": False,
            },
            blocks={"ffn_gate_inp": "mlp.gate", "ffn_gate_inp_shexp": "mlp.shared_expert_gate", **_SHARED},
            widths={"shared_expert_intermediate_size": "ffn_down_shexp.weight"},
            biases="qkv_bias",
            optional=("intermediate_size",),
        ),
        Architecture(
            "qwen3moe",
            "qwen3_moe",
            "Qwen3MoeForCausalLM",
            settings={
                "intermediate_size": "feed_forward_length",
                "num_experts": "expert_count",
                "head_dim": "attention.key_length",
            },
            fixed={
                "norm_topk_prob": True,
                "decoder_sparse_step": 1,
                "mlp_only_layers": [],
                "use_sliding_window": False,
            },
            blocks={"ffn_gate_inp": "mlp.gate", **_QK_NORMS},
            optional=("intermediate_size",),
        ),
        Architecture(
            "olmoe",
            "olmoe",
            "OlmoeForCausalLM",
            settings={"num_experts": "expert_count", "clip_qkv": "attention.clamp_kqv"},
            fixed={"norm_topk_prob": False},
            blocks={"ffn_gate_inp": "mlp.gate", **_QK_NORMS},
            width="intermediate_size",
            optional=("clip_qkv",),
            grouped=False,
        ),
        Architecture(
            "granitemoe",
            "granitemoe",
            "GraniteMoeForCausalLM",
            settings={
                "num_local_experts": "expert_count",
                "attention_multiplier": "attention.scale",
                "embedding_multiplier": "embedding_scale",
                "residual_multiplier": "residual_scale",
                "logits_scaling": "logit_scale",
            },
            blocks={"ffn_gate_inp": "block_sparse_moe.router.layer"},
            experts={},
            fused={
                ("ffn_gate_exps.weight", "ffn_up_exps.weight"): Fused("block_sparse_moe.input_linear.weight", "joined"),
                ("ffn_down_exps.weight",): Fused("block_sparse_moe.output_linear.weight", "whole"),
            },
            rotary=True,
            width="intermediate_size",
        ),
        Architecture(
            "gpt-oss",
            "gpt_oss",
            "GptOssForCausalLM",
            settings={
                "num_local_experts": "expert_count",
                "head_dim": "attention.key_length",
                "sliding_window": "attention.sliding_window",
            },
            blocks={
                "post_attention_norm": "post_attention_layernorm",
                "ffn_gate_inp": "mlp.router",
                "attn_sinks.weight": "self_attn.sinks",
            },
            experts={},
            fused={
                ("ffn_gate_exps.weight", "ffn_up_exps.weight"): Fused("mlp.experts.gate_up_proj", "interleaved"),
                ("ffn_gate_exps.bias", "ffn_up_exps.bias"): Fused("mlp.experts.gate_up_proj_bias", "interleaved"),
                ("ffn_down_exps.weight",): Fused("mlp.experts.down_proj", "transposed"),
                ("ffn_down_exps.bias",): Fused("mlp.experts.down_proj_bias", "whole"),
            },
            width="intermediate_size",
            rotary_fixed={"truncate": False},
        ),
    )
}
