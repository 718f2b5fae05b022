"""Models of a few thousand weights, saved by transformers itself: one function a model type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

_COMMON = {
    "vocab_size": 64,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
#: Small enough for the multi-head latent attention of DeepSeek-V2 and V3.
_LATENT = {"kv_lora_rank": 4, "q_lora_rank": 4, "qk_rope_head_dim": 4, "v_head_dim": 4, "qk_nope_head_dim": 4}
_LATENT |= {"num_key_value_heads": 2, "n_group": 1, "topk_group": 1, "pad_token_id": None, "eos_token_id": None}


def _make(model: str, seed: int, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(seed)
    architecture = getattr(transformers, model)
    made = architecture(architecture.config_class(**_COMMON | changes)).eval()
    for parameter in made.parameters():  # biases and gpt-oss's sinks would start as zeros or as whatever was there
        if parameter.dim() < 2 or parameter.dim() == 3:
            torch.nn.init.normal_(parameter, 0.3, 0.3)
    return made


def mixtral(seed: int = 0, **changes: Any) -> PreTrainedModel:
    return _make("MixtralForCausalLM", seed, num_local_experts=4, **changes)


def qwen2_moe(seed: int = 0, **changes: Any) -> PreTrainedModel:
    sizes = {"num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 10}
    return _make("Qwen2MoeForCausalLM", seed, **sizes, num_hidden_layers=3, mlp_only_layers=[1], **changes)


def qwen3_moe(seed: int = 0, **changes: Any) -> PreTrainedModel:
    return _make(
        "Qwen3MoeForCausalLM", seed, **{"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 4} | changes
    )


def olmoe(seed: int = 0) -> PreTrainedModel:
    return _make("OlmoeForCausalLM", seed, num_experts=4, pad_token_id=None, eos_token_id=None)


def deepseek_v2(seed: int = 0) -> PreTrainedModel:
    sizes = {"n_routed_experts": 4, "n_shared_experts": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1}
    return _make("DeepseekV2ForCausalLM", seed, **_LATENT | sizes)


def deepseek_v3(seed: int = 0) -> PreTrainedModel:
    sizes = {"n_routed_experts": 4, "n_shared_experts": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1}
    return _make("DeepseekV3ForCausalLM", seed, **_LATENT | sizes, num_nextn_predict_layers=0)


def switch_transformers(seed: int = 0) -> PreTrainedModel:
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 12, "num_heads": 2, "num_layers": 2, "num_decoder_layers": 3}
    sizes |= {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_experts": 4, "router_bias": True}
    torch.manual_seed(seed)
    config = transformers.SwitchTransformersConfig(vocab_size=64, decoder_start_token_id=0, **sizes)
    return transformers.SwitchTransformersForConditionalGeneration(config).eval()


def granitemoe(seed: int = 0) -> PreTrainedModel:
    return _make("GraniteMoeForCausalLM", seed, num_local_experts=4, pad_token_id=None, eos_token_id=None)


def gpt_oss(seed: int = 0) -> PreTrainedModel:
    special = {"pad_token_id": None, "eos_token_id": None}
    return _make("GptOssForCausalLM", seed, num_local_experts=4, head_dim=4, num_key_value_heads=2, **special)


def llama4_text(seed: int = 0) -> PreTrainedModel:
    sizes = {"num_local_experts": 4, "intermediate_size_mlp": 10, "interleave_moe_layer_step": 2, "head_dim": 4}
    special = {"pad_token_id": None, "eos_token_id": None, "num_experts_per_tok": 1}
    return _make("Llama4ForCausalLM", seed, **sizes, **special)


#: Model type -> a model of it.
PICO: dict[str, Callable[..., PreTrainedModel]] = {
    "mixtral": mixtral,
    "qwen2_moe": qwen2_moe,
    "qwen3_moe": qwen3_moe,
    "olmoe": olmoe,
    "deepseek_v2": deepseek_v2,
    "deepseek_v3": deepseek_v3,
    "switch_transformers": switch_transformers,
    "granitemoe": granitemoe,
    "gpt_oss": gpt_oss,
    "llama4_text": llama4_text,
}


def save(model: PreTrainedModel, folder: Path, *, shards: bool = False) -> Path:
    """Save a model as the hub would have it, in several files if asked."""
    model.save_pretrained(folder, max_shard_size="8KB" if shards else "5GB")
    return folder


def logits(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    """Logits of some tokens; an encoder-decoder reads and writes the same ones."""
    both = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(tokens, **both).logits
