"""Conversion of DeepSeekMoE-16B, which transformers 5 cannot run, to an equivalent Qwen2-MoE.

Both have the same decoder (RMS norm, rotary attention, softmax routing over gated experts). Qwen2-MoE has a gate before
its shared expert and DeepSeek has none: a gate with zero weights is sigmoid(0) = 1/2, so the shared expert's
down-projection is doubled, which is exact.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .._core.errors import CheckpointError, OutputError
from .._core.files import make_folder
from .companions import copy_companion_files
from .index import Checkpoint
from .reader import read_tensors
from .weight_files import SINGLE_FILE
from .writer import write_index, write_json, write_tensors

#: Settings with the same name and meaning in both.
_COMMON_SETTINGS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "moe_intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "num_experts_per_tok",
    "norm_topk_prob",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "tie_word_embeddings",
    "use_cache",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "torch_dtype",
    "dtype",
)
#: Settings without a counterpart in Qwen2-MoE, and their only convertible values.
_REQUIRED_VALUES = {"attention_bias": False, "scoring_func": "softmax", "rope_scaling": None}
_SHARED_DOWN = re.compile(r"(.*\.mlp)\.shared_expert\.down_proj\.weight")


def deepseek_as_qwen2(checkpoint: Checkpoint, out: str | Path) -> Path:
    """Convert a DeepSeekMoE checkpoint to an equivalent one of Qwen2-MoE, file by file.

    Parameters
    ----------
    checkpoint
        A checkpoint with ``model_type`` ``deepseek``; code in its folder is neither run nor copied.
    out
        The output folder, new or empty.

    Returns
    -------
    pathlib.Path
        The output folder.

    Raises
    ------
    CheckpointError
        If it is of another model type, or has a setting that Qwen2-MoE does not support.
    OutputError
        If `out` is not empty or cannot be written.
    """
    config, out = _qwen2_config(checkpoint), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists already, expected a new or empty folder: name another place")
    make_folder(out)
    files = defaultdict(list)
    for name, info in checkpoint.tensors.items():
        files[info.file.name].append(name)
    written: dict[str, list[str]] = {}
    for file, names in files.items():
        tensors = _renamed(read_tensors(checkpoint, names))
        write_tensors(out / file, tensors)
        written[file] = list(tensors)
    if list(files) != [SINGLE_FILE]:
        write_index(out, written, total_bytes=checkpoint.total_bytes)
    copy_companion_files(checkpoint, out, code=False)
    write_json(out / "config.json", config)
    return out


def _qwen2_config(checkpoint: Checkpoint) -> dict[str, Any]:
    source = checkpoint.config
    if checkpoint.model_type != "deepseek":
        raise CheckpointError(
            f"{checkpoint.folder} has model_type {checkpoint.model_type!r}, expected 'deepseek': only DeepSeekMoE is "
            "converted, later generations run without conversion"
        )
    for name, value in _REQUIRED_VALUES.items():
        if source.get(name, value) != value:
            raise CheckpointError(f"config.json has {name} = {source[name]!r}, expected {value!r}: not convertible")
    try:
        shared = source["n_shared_experts"] * source["moe_intermediate_size"]
        experts = source["n_routed_experts"]
        dense = [layer for layer in range(source["num_hidden_layers"]) if not _has_experts(source, layer)]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"config.json of {checkpoint.folder} lacks {error}: copy the checkpoint again") from error
    return {name: source[name] for name in _COMMON_SETTINGS if name in source} | {
        "architectures": ["Qwen2MoeForCausalLM"],
        "model_type": "qwen2_moe",
        "num_experts": experts,
        "shared_expert_intermediate_size": shared,
        "mlp_only_layers": dense,
        "decoder_sparse_step": 1,
        "qkv_bias": False,
        "use_sliding_window": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": float(source.get("rope_theta", 10000.0))},
    }


def _has_experts(config: Mapping[str, Any], layer: int) -> bool:
    return layer >= config.get("first_k_dense_replace", 0) and layer % config.get("moe_layer_freq", 1) == 0


def _renamed(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the tensors of one file as in Qwen2-MoE, and add the gates of its shared experts."""
    renamed = {}
    for name, tensor in tensors.items():
        name = name.replace(".mlp.shared_experts.", ".mlp.shared_expert.")
        if match := _SHARED_DOWN.fullmatch(name):
            tensor = 2 * tensor
            renamed[f"{match[1]}.shared_expert_gate.weight"] = tensor.new_zeros(1, tensor.shape[0])
        renamed[name] = tensor
    return renamed
