"""Models of a few thousand weights as llama.cpp's converter writes them: what it does, loop by loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

#: Sides that every block of 32 divides.
_COMMON = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}


#: Sizes of DeepSeek's attention and experts.
_LATENT: dict[str, Any] = {
    "n_routed_experts": 4,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 24,
    "num_key_value_heads": 4,
}


def make(kind: str, **changes: Any) -> PreTrainedModel:
    """A model with the settings that llama.cpp computes with."""
    more: dict[str, tuple[str, dict[str, Any]]] = {
        "llama": ("MixtralForCausalLM", {"num_local_experts": 4}),
        "qwen2moe": (
            "Qwen2MoeForCausalLM",
            {"num_experts": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 64},
        ),
        "qwen3moe": (
            "Qwen3MoeForCausalLM",
            {"num_experts": 4, "moe_intermediate_size": 32, "head_dim": 32, "norm_topk_prob": True},
        ),
        "olmoe": ("OlmoeForCausalLM", {"num_experts": 4}),
        "granitemoe": (
            "GraniteMoeForCausalLM",
            {
                "num_local_experts": 4,
                "logits_scaling": 4.0,
                "residual_multiplier": 0.5,
                "embedding_multiplier": 3.0,
                "attention_multiplier": 0.125,
            },
        ),
        "gpt-oss": ("GptOssForCausalLM", {"num_local_experts": 4, "head_dim": 16, "sliding_window": 8}),
        "glm4moe": (
            "Glm4MoeForCausalLM",
            {
                "n_routed_experts": 4,
                "n_shared_experts": 2,
                "moe_intermediate_size": 32,
                "first_k_dense_replace": 1,
                "routed_scaling_factor": 2.5,
                "head_dim": 32,
                "use_qk_norm": True,
                "attention_bias": True,
                "num_hidden_layers": 3,
            },
        ),
        "deepseek2": (
            "DeepseekV2ForCausalLM",
            {**_LATENT, "n_shared_experts": 2, "q_lora_rank": None, "routed_scaling_factor": 1.5},
        ),
        "deepseek2 sigmoid": (
            "DeepseekV3ForCausalLM",
            {**_LATENT, "n_shared_experts": 1, "q_lora_rank": 48, "n_group": 1, "topk_group": 1},
        ),
        "minimax-m2": (
            "MiniMaxM2ForCausalLM",
            {
                "num_local_experts": 4,
                "head_dim": 32,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
            },
        ),
    }
    name, sizes = more[kind]
    torch.manual_seed(0)
    model = getattr(transformers, name)
    made: PreTrainedModel = model(model.config_class(**_COMMON | sizes | changes)).eval()
    for parameter in made.parameters():  # norms, biases and sinks would start as ones and zeros
        if parameter.dim() < 2 or parameter.dim() == 3:
            torch.nn.init.normal_(parameter, 0.3, 0.3)
    return made


def saved(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The tensors of a model as transformers writes them."""
    return dict(revert_weight_conversion(model, dict(model.state_dict())))


def _settings(writer: gguf.GGUFWriter, kind: str, model: PreTrainedModel) -> None:
    """As ``set_gguf_parameters`` of the converter's classes."""
    c = model.config
    writer.add_block_count(c.num_hidden_layers)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    latent = kind.startswith("deepseek2")
    writer.add_head_count_kv(1 if latent else c.num_key_value_heads)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    rotary = c.rope_parameters
    writer.add_rope_freq_base(rotary["rope_theta"])
    if rotary["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rotary["factor"])
        writer.add_rope_scaling_orig_ctx_len(rotary["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_fast(rotary["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(rotary["beta_slow"])
    experts = getattr(c, "num_experts", None) or getattr(c, "n_routed_experts", None) or c.num_local_experts
    writer.add_expert_count(experts)
    writer.add_expert_used_count(c.num_experts_per_tok)
    if latent:
        if c.q_lora_rank is not None:
            writer.add_q_lora_rank(c.q_lora_rank)
        writer.add_kv_lora_rank(c.kv_lora_rank)
        writer.add_key_length(c.kv_lora_rank + c.qk_rope_head_dim)
        writer.add_value_length(c.kv_lora_rank)
        writer.add_key_length_mla(c.qk_nope_head_dim + c.qk_rope_head_dim)
        writer.add_value_length_mla(c.v_head_dim)
        writer.add_rope_dimension_count(c.qk_rope_head_dim)
        sigmoid = gguf.ExpertGatingFuncType.SIGMOID if kind.endswith("sigmoid") else gguf.ExpertGatingFuncType.SOFTMAX
        writer.add_expert_gating_func(sigmoid)
        if rotary["rope_type"] == "yarn":
            writer.add_rope_scaling_yarn_log_mul(0.1 * rotary["mscale_all_dim"])
    if kind in ("glm4moe", "minimax-m2"):
        writer.add_rope_dimension_count(int(c.head_dim * rotary["partial_rotary_factor"]))
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    if kind == "minimax-m2":
        writer.add_expert_feed_forward_length(c.intermediate_size)
    if kind == "glm4moe" or latent:
        writer.add_expert_feed_forward_length(c.moe_intermediate_size)
        writer.add_expert_shared_count(c.n_shared_experts)
        writer.add_leading_dense_block_count(c.first_k_dense_replace)
        writer.add_expert_weights_scale(c.routed_scaling_factor)
        if c.norm_topk_prob:
            writer.add_expert_weights_norm(c.norm_topk_prob)
    if kind in ("qwen3moe", "gpt-oss", "glm4moe", "minimax-m2"):
        writer.add_key_length(c.head_dim)
        writer.add_value_length(c.head_dim)
    if kind in ("llama", "granitemoe"):
        writer.add_vocab_size(c.vocab_size)
        writer.add_rope_dimension_count(c.hidden_size // c.num_attention_heads)
    if kind in ("qwen2moe", "qwen3moe"):
        writer.add_expert_feed_forward_length(c.moe_intermediate_size)
    if kind == "qwen2moe":
        writer.add_expert_shared_feed_forward_length(c.shared_expert_intermediate_size)
    if kind == "granitemoe":
        writer.add_attention_scale(c.attention_multiplier)
        writer.add_embedding_scale(c.embedding_multiplier)
        writer.add_residual_scale(c.residual_multiplier)
        writer.add_logit_scale(c.logits_scaling)
    if kind == "gpt-oss":
        writer.add_sliding_window(c.sliding_window)
        writer.add_expert_feed_forward_length(c.intermediate_size)


def _permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a head from halves to neighbouring pairs, row by row."""
    half = len(weight) // heads // 2
    rows = []
    for head in range(heads):
        for i in range(half):
            rows += [weight[2 * half * head + i], weight[2 * half * head + half + i]]
    return np.stack(rows)


def converted_tensors(kind: str, model: PreTrainedModel) -> dict[str, np.ndarray]:
    """The tensors of a model under GGUF's names, in GGUF's order."""
    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == kind.split()[0])
    names = gguf.get_tensor_name_map(arch, model.config.num_hidden_layers)
    stored = {name: tensor.float().numpy() for name, tensor in saved(model).items()}
    result: dict[str, np.ndarray] = {}
    experts: dict[str, list[tuple[int, np.ndarray]]] = {}
    for name, array in stored.items():
        pieces = name.split(".")
        if ".experts." in name and pieces[5].isdigit():
            merged = ".".join([*pieces[:5], *pieces[6:]])
            if kind == "llama":
                merged = f"layers.{pieces[2]}.feed_forward.experts.{pieces[6]}.weight"
            experts.setdefault(merged, []).append((int(pieces[5]), array))
        elif name.endswith("block_sparse_moe.input_linear.weight"):
            half = array.shape[1] // 2
            result[f"blk.{pieces[2]}.ffn_gate_exps.weight"] = array[:, :half]
            result[f"blk.{pieces[2]}.ffn_up_exps.weight"] = array[:, half:]
        elif name.endswith("experts.gate_up_proj"):
            result[f"blk.{pieces[2]}.ffn_gate_exps.weight"] = array.transpose(0, 2, 1)[:, ::2]
            result[f"blk.{pieces[2]}.ffn_up_exps.weight"] = array.transpose(0, 2, 1)[:, 1::2]
        elif name.endswith("experts.gate_up_proj_bias"):
            result[f"blk.{pieces[2]}.ffn_gate_exps.bias"] = array[:, ::2]
            result[f"blk.{pieces[2]}.ffn_up_exps.bias"] = array[:, 1::2]
        elif name.endswith("experts.down_proj"):
            result[f"blk.{pieces[2]}.ffn_down_exps.weight"] = array.transpose(0, 2, 1)
        elif name.endswith("experts.down_proj_bias"):
            result[f"blk.{pieces[2]}.ffn_down_exps.bias"] = array
        elif name.endswith("kv_b_proj.weight"):
            c = model.config
            heads = array.reshape(c.num_attention_heads, c.qk_nope_head_dim + c.v_head_dim, c.kv_lora_rank)
            keys, values = heads[:, : c.qk_nope_head_dim], heads[:, c.qk_nope_head_dim :]
            result[f"blk.{pieces[2]}.attn_k_b.weight"] = keys.transpose(0, 2, 1)
            result[f"blk.{pieces[2]}.attn_v_b.weight"] = values
        elif name.endswith("sinks"):
            result[f"blk.{pieces[2]}.attn_sinks.weight"] = array
        else:
            if kind in ("llama", "granitemoe") and pieces[-2] in ("q_proj", "k_proj"):
                c = model.config
                array = _permuted(array, c.num_attention_heads if pieces[-2] == "q_proj" else c.num_key_value_heads)
            if kind == "qwen2moe" and name.endswith("shared_expert_gate.weight"):
                array = array.squeeze(0)
            name = name.replace("e_score_correction_bias", "e_score_correction.bias")
            result[names.get_name(name, (".weight", ".bias"))] = array
    for name, parts in experts.items():
        result[names.get_name(name, (".weight", ".bias"))] = np.stack(
            [array for _, array in sorted(parts, key=lambda part: part[0])]
        )
    return {name: np.ascontiguousarray(array) for name, array in result.items()}


def convert(
    kind: str,
    model: PreTrainedModel,
    path: Path,
    *,
    types: Callable[[str], str] = lambda name: "F32",
    change: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]] = lambda tensors: tensors,
    told: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
    **options: Any,
) -> Path:
    """Write a model as GGUF: `types` tells the type of each tensor of two or more sides, others are F32.

    `change` makes other tensors, and `told` other metadata.
    """
    writer = gguf.GGUFWriter(str(path), kind.split()[0], **options)
    _settings(writer, kind, model)
    told(writer)
    writer.add_tokenizer_model("none")
    writer.add_token_list([f"t{number}" for number in range(model.config.vocab_size)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, array in change(converted_tensors(kind, model)).items():
        how = gguf.GGMLQuantizationType[types(name) if array.ndim > 1 else "F32"]
        writer.add_tensor(name, gguf.quants.quantize(array.astype(np.float32), how), raw_dtype=how)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits(model: PreTrainedModel) -> torch.Tensor:
    tokens = torch.randint(3, 90, (2, 17), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(tokens).logits
