"""DeepSeekMoE-16B as Qwen2-MoE: transformers 5 cannot run the one, and the other computes exactly the same.

Both are the same decoder (RMS norm, rotary attention, softmax routing over gated experts). Qwen2-MoE has a gate before
its shared expert and DeepSeek has none: a gate of zeros lets through sigmoid(0) = 1/2, so the shared expert's
down-projection is doubled, which loses no bit.
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .._core.errors import CheckpointError, OutputError
from .._core.files import atomic_write
from .index import SINGLE_FILE, Checkpoint
from .reader import read_tensors
from .writer import companions, write_index, write_json, write_tensors

#: Settings that mean the same in both, under the same name.
_SAME = (
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
#: Settings that Qwen2-MoE has no counterpart for, and the values that need none.
_NEEDED = {"attention_bias": False, "scoring_func": "softmax", "rope_scaling": None}
_SHARED_DOWN = re.compile(r"(.*\.mlp)\.shared_expert\.down_proj\.weight")


def deepseek_as_qwen2(checkpoint: Checkpoint, out: str | Path) -> Path:
    """Write a DeepSeekMoE checkpoint as one of Qwen2-MoE that computes the same, file by file.

    Parameters
    ----------
    checkpoint
        One whose ``model_type`` is ``deepseek``; code in its folder is neither run nor copied.
    out
        A new or empty folder.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    CheckpointError
        If it is something else, or has a setting that Qwen2-MoE knows nothing of.
    OutputError
        If `out` holds something or cannot be written.
    """
    config, out = _qwen2_config(checkpoint), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} is there already, expected a new or empty folder: name another place")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be made ({error.strerror}): name another place") from error
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
    for path in companions(checkpoint):
        with atomic_write(out / path.name) as part:
            shutil.copyfile(path, part)
    write_json(out / "config.json", config)
    return out


def _qwen2_config(checkpoint: Checkpoint) -> dict[str, Any]:
    found = checkpoint.config
    if checkpoint.model_type != "deepseek":
        raise CheckpointError(
            f"{checkpoint.folder} has model_type {checkpoint.model_type!r}, expected 'deepseek': only DeepSeekMoE is "
            "converted, later ones run as they are"
        )
    for name, value in _NEEDED.items():
        if found.get(name, value) != value:
            raise CheckpointError(f"config.json has {name} = {found[name]!r}, expected {value!r}: not convertible")
    try:
        shared = found["n_shared_experts"] * found["moe_intermediate_size"]
        experts = found["n_routed_experts"]
        dense = [layer for layer in range(found["num_hidden_layers"]) if not _has_experts(found, layer)]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"config.json of {checkpoint.folder} lacks {error}: copy the checkpoint again") from error
    return {name: found[name] for name in _SAME if name in found} | {
        "architectures": ["Qwen2MoeForCausalLM"],
        "model_type": "qwen2_moe",
        "num_experts": experts,
        "shared_expert_intermediate_size": shared,
        "mlp_only_layers": dense,
        "decoder_sparse_step": 1,
        "qkv_bias": False,
        "use_sliding_window": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": float(found.get("rope_theta", 10000.0))},
    }


def _has_experts(config: Mapping[str, Any], layer: int) -> bool:
    return layer >= config.get("first_k_dense_replace", 0) and layer % config.get("moe_layer_freq", 1) == 0


def _renamed(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Name one file's tensors as Qwen2-MoE does, with the gates of its shared experts."""
    renamed = {}
    for name, tensor in tensors.items():
        name = name.replace(".mlp.shared_experts.", ".mlp.shared_expert.")
        if match := _SHARED_DOWN.fullmatch(name):
            tensor = 2 * tensor
            renamed[f"{match[1]}.shared_expert_gate.weight"] = tensor.new_zeros(1, tensor.shape[0])
        renamed[name] = tensor
    return renamed
