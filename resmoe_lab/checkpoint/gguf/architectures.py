"""What llama.cpp calls the tensors and the settings of the models that it runs, and what transformers calls them.

transformers reads some of these files itself; what it leaves at a default (the experts' width, the scaling of rotary
angles) or does not know (Mixtral's experts) is read here.
"""

from __future__ import annotations

from typing import Any

from ._architecture import Architecture as Architecture
from ._architecture import Fused as Fused

_QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_SHARED = {f"ffn_{name}_shexp": f"mlp.shared_expert.{name}_proj" for name in ("gate", "up", "down")}
_DENSE = {f"ffn_{name}": f"mlp.{name}_proj" for name in ("gate", "up", "down")}
_MIXTRAL_EXPERTS = {
    name: f"block_sparse_moe.experts.{{k}}.{stored}.weight"
    for name, stored in (("gate", "w1"), ("up", "w3"), ("down", "w2"))
}
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
