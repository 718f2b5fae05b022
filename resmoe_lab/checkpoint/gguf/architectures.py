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
_DENSE = {f"ffn_{name}": f"mlp.{name}_proj" for name in ("gate", "up", "down")}
_MIXTRAL_EXPERTS = {
    name: f"block_sparse_moe.experts.{{k}}.{stored}.weight"
    for name, stored in (("gate", "w1"), ("up", "w3"), ("down", "w2"))
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


_ROUTED = {
    "intermediate_size": "feed_forward_length",
    "n_routed_experts": "expert_count",
    "n_shared_experts": "expert_shared_count",
    "first_k_dense_replace": "leading_dense_block_count",
    "routed_scaling_factor": "expert_weights_scale",
    "norm_topk_prob": "expert_weights_norm",
    "n_group": "expert_group_count",
    "topk_group": "expert_group_used_count",
}
_ROUTED_BLOCKS = {
    "ffn_gate_inp": "mlp.gate",
    **{name: target.replace("shared_expert", "shared_experts") for name, target in _SHARED.items()},
    **_DENSE,
}
_ROUTED_ABSENT = {
    "n_shared_experts": 0,
    "first_k_dense_replace": 0,
    "routed_scaling_factor": 1.0,
    "norm_topk_prob": False,
    "n_group": 1,
    "topk_group": 1,
}
_CORRECTION = {"exp_probs_b.bias": "mlp.gate.e_score_correction_bias"}
#: DeepSeek's attention. Converters have split the second matrix of keys and values since 2025.
_LATENT: dict[str, Any] = {
    "settings": {
        **_ROUTED,
        "kv_lora_rank": "attention.kv_lora_rank",
        "q_lora_rank": "attention.q_lora_rank",
        "qk_rope_head_dim": "rope.dimension_count",
    },
    "fused": {("attn_k_b.weight", "attn_v_b.weight"): Fused("self_attn.kv_b_proj.weight", "latent")},
    "absent": {**_ROUTED_ABSENT, "q_lora_rank": None},
    "biases": "",
    "latent": True,
    "written": False,
}
_LATENT_BLOCKS = {
    **_ROUTED_BLOCKS,
    "attn_q_a": "self_attn.q_a_proj",
    "attn_q_a_norm": "self_attn.q_a_layernorm",
    "attn_q_b": "self_attn.q_b_proj",
    "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
    "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    "attn_kv_b": "self_attn.kv_b_proj",
}


#: By their name, with a word behind it where one name is of several.
ARCHITECTURES = {
    architecture.name if architecture.model_type != "deepseek_v3" else f"{architecture.name} sigmoid": architecture
    for architecture in (
        Architecture(
            "llama",
            "mixtral",
            "MixtralForCausalLM",
            settings={"num_local_experts": "expert_count"},
            fixed={"sliding_window": None},
            blocks={"ffn_gate_inp": "block_sparse_moe.gate"},
            experts=_MIXTRAL_EXPERTS,
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
        Architecture(
            "glm4moe",
            "glm4_moe",
            "Glm4MoeForCausalLM",
            settings={**_ROUTED, "head_dim": "attention.key_length"},
            blocks={
                "post_attention_norm": "post_attention_layernorm",
                **_ROUTED_BLOCKS,
                **_CORRECTION,
                **_QK_NORMS,
            },
            absent=_ROUTED_ABSENT,
            gating=2,
            partial=True,
            qk_norms="use_qk_norm",
        ),
        Architecture(
            "minimax-m2",
            "minimax_m2",
            "MiniMaxM2ForCausalLM",
            settings={"num_local_experts": "expert_count", "head_dim": "attention.key_length"},
            blocks={
                "ffn_gate_inp": "block_sparse_moe.gate",
                "exp_probs_b.bias": "block_sparse_moe.e_score_correction_bias",
                **_QK_NORMS,
            },
            experts=_MIXTRAL_EXPERTS,
            width="intermediate_size",
            biases="",
            gating=2,
            partial=True,
        ),
        Architecture("deepseek2", "deepseek_v2", "DeepseekV2ForCausalLM", blocks=_LATENT_BLOCKS, **_LATENT),
        Architecture(
            "deepseek2",
            "deepseek_v3",
            "DeepseekV3ForCausalLM",
            blocks={**_LATENT_BLOCKS, **_CORRECTION},
            gating=2,
            **_LATENT,
        ),
    )
}
