"""Tiny models of every architecture of transformers whose experts its own decorator describes."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import CONFIG_MAPPING, PreTrainedModel

from resmoe_lab.experts import model_class

_LAYERS = 3
#: Small values of the settings that configs have, under all the names that they have them.
_SIZES: dict[str, Any] = (
    {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 24, "moe_intermediate_size": 16, "head_dim": 8}
    | {"num_hidden_layers": _LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
    | dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4)
    | dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts"), 2)
    | dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1)
    | dict.fromkeys(("shared_expert_intermediate_size", "shared_intermediate_size"), 12)
    | dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "n_group", "topk_group", "num_expert_group"), 1)
    | dict.fromkeys(("kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8)
    | {"index_topk": 8, "index_head_dim": 16, "index_n_heads": 2, "sliding_window": 16, "num_nextn_predict_layers": 0}
    | {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
    | {"linear_head_dim": 8, "linear_num_heads": 4, "mamba_d_state": 8, "mamba_n_heads": 4, "mamba_d_head": 16}
    | {"mamba_dt_rank": 4, "mamba_d_conv": 4, "mamba_expand": 2, "tie_word_embeddings": False, "pad_token_id": None}
    | {"bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3}
)
_FULL_HEADS = {"num_key_value_heads": 4}
_MIXED = {"mlp_layer_types": ["dense", *["sparse"] * (_LAYERS - 1)]}
_LINEAR = {"layer_types": ["linear_attention", "full_attention", "linear_attention"]}
_SWA = {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 8}
#: What single architectures need beside them.
_SETTINGS: dict[str, dict[str, Any]] = (
    dict.fromkeys(("deepseek_v2", "deepseek_v3", "mistral4"), _FULL_HEADS)
    | dict.fromkeys(
        ("deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "hy_v4", "bailing_hybrid", "axk1", "axk2", "kimi_linear"),
        _FULL_HEADS | _MIXED,
    )
    | dict.fromkeys(("hy_v3", "beam", "exaone_moe", "laguna"), _MIXED)
    | dict.fromkeys(("qwen3_5_moe_text", "granitemoehybrid"), _LINEAR)
    | {
        "qwen3_next": _LINEAR | {"mlp_only_layers": [0]},
        "qwen4_exp_text": _LINEAR
        | {"hc_lowrank": 8, "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 16}
        | {"indexer_compress_ratio": 4, "ple_layer_ids": [], "ple_embed_dim": 16, "ngram_vocab_size_base": 64}
        | {"split_ngram_parts": 2, "heads_per_ngram": 2, "make_ngram_vocab_size_divisible_by": 8},
        "ernie4_5_moe": {"moe_layer_end_index": _LAYERS - 1},
        "minimax": {"layer_types": ["full_attention", "linear_attention", "full_attention"], "block_size": 8},
        "minimax_m3_vl_text": _MIXED
        | {"dense_intermediate_size": 24, "layer_types": ["full_attention"] * _LAYERS, "rotary_dim": 4},
        "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
        "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"]},
        "cohere2_moe": {"num_shared_experts": 0},
        "dots3_note_text": _FULL_HEADS
        | _MIXED
        | {"layer_types": ["indexed_attention"] * _LAYERS, "per_layer_config": {}},
        "gemma4_text": {"enable_moe_block": True, "vocab_size_per_layer_input": 96, "hidden_size_per_layer_input": 8}
        | {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"]},
        "inkling_text": _MIXED | _SWA,
        "inkling2_text": _SWA | {"unpadded_vocab_size": 96},
        "mimo_v2_flash": _MIXED | {"head_dim": 12},
        "nemotron_h": {"layers_block_type": ["linear_attention", "moe", "full_attention", "moe"]}
        | {"moe_shared_expert_intermediate_size": 12, "ssm_state_size": 8, "mamba_num_heads": 4, "mamba_head_dim": 16}
        | {"n_groups": 1, "chunk_size": 8, "num_hidden_layers": None},
        "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 8},
    }
)


def config_content(model_type: str) -> dict[str, Any]:
    """The ``config.json`` of a tiny model."""
    kind = CONFIG_MAPPING[model_type]
    known = set(getattr(kind, "__dataclass_fields__", None) or inspect.signature(kind.__init__).parameters)
    others = set((getattr(kind, "attribute_map", None) or {}).keys())
    settings = {name: value for name, value in _SIZES.items() if name in known and name not in others}
    settings |= _SETTINGS.get(model_type, {})
    if settings.get("num_hidden_layers", 0) is None:
        del settings["num_hidden_layers"]
    content: dict[str, Any] = kind(**settings).to_dict()
    return content


def tiny_model(model_type: str) -> PreTrainedModel:
    """A model with random weights, none of which is zero or at its start."""
    config = CONFIG_MAPPING[model_type].from_dict(config_content(model_type))
    torch.manual_seed(0)
    model = model_class(config)(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() < 2:
            parameter.copy_(0.1 * noise + (1.0 if "norm" in name and name.endswith("weight") else 0.0))
        elif "expert" in name or not parameter.isfinite().all() or not parameter.any():
            parameter.copy_(0.3 * noise)
    return model


def logits_of(model: PreTrainedModel) -> torch.Tensor:
    """(12, vocabulary) logits of some tokens."""
    tokens = torch.arange(12)[None] * 7 % 90 + 3
    with torch.no_grad():
        return model(input_ids=tokens, use_cache=False).logits[0].float()
