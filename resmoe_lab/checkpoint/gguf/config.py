"""The ``config.json`` that the metadata of a GGUF file amounts to."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._core.errors import CheckpointError, ResmoeWarning
from .architectures import Architecture
from .header import GgufHeader, GgufTensor

Tensors = Mapping[str, tuple[Path, GgufTensor]]
_TOKENS = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "pad_token_id": "padding_token_id"}
#: Keys that say what the tensors say, or that another program needs.
_REDUNDANT = {
    *("vocab_size", "feed_forward_length", "expert_feed_forward_length", "expert_shared_feed_forward_length"),
    *("expert_count", "attention.key_length", "attention.value_length", "rope.dimension_count", "rope.freq_base"),
    *("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.finetuned"),
    *("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow", "rope.scaling.yarn_attn_factor"),
    *("nextn_predict_layers", "attention.key_length_mla", "attention.value_length_mla"),
    "rope.scaling.yarn_log_multiplier",
}
#: Keys whose only understood values are those that change nothing.
_NEUTRAL = {
    "expert_weights_scale": (0.0, 1.0),
    "expert_shared_count": (0, 1),
    "expert_group_count": (0, 1),
    "expert_group_used_count": (0, 1),
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
}
_FLOAT_TYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def gguf_config(architecture: Architecture, header: GgufHeader, tensors: Tensors) -> dict[str, Any]:
    """Return what a ``config.json`` of the model would say.

    Parameters
    ----------
    architecture
        What the model is.
    header
        Of the model's first file.
    tensors
        All tensors, by their names in GGUF: where sizes are told twice, theirs count.

    Raises
    ------
    CheckpointError
        If the metadata lack something, or say what is not understood.
    """
    values = _Values(header)
    config: dict[str, Any] = {
        "model_type": architecture.model_type,
        "architectures": [architecture.model_class],
        **architecture.fixed,
        **{name: values.read(name, key, architecture) for name, key in architecture.all_settings.items()},
        "vocab_size": _rows(tensors, "token_embd.weight", header),
        "tie_word_embeddings": "output.weight" not in tensors,
        "rope_parameters": _rotary(values) | dict(architecture.rotary_fixed),
        "dtype": _float_type(tensors),
        **{name: header.metadata.get(f"tokenizer.ggml.{key}") for name, key in _TOKENS.items()},
    }
    kept = {*architecture.fixed, *architecture.absent}
    config = {name: value for name, value in config.items() if value is not None or name in kept}
    for setting, suffix in {architecture.width: "ffn_down_exps.weight", **architecture.widths}.items():
        config[setting] = _columns(tensors, suffix, header)
    # Layers that predict further tokens stand behind the others, and are counted with them.
    config["num_hidden_layers"] -= values.get("nextn_predict_layers", 0)
    for setting, suffix in {architecture.biases: "attn_q.bias", architecture.qk_norms: "attn_q_norm.weight"}.items():
        if setting:
            config[setting] = any(name.endswith(suffix) for name in tensors)
    rotated = _latent_heads(config, values) if architecture.latent else _rotated_part(config, values, tensors)
    if architecture.partial:
        config["rope_parameters"]["partial_rotary_factor"] = rotated
    elif rotated != 1:
        raise CheckpointError(
            f"{header.file} rotates {rotated:g} of the dimensions of a head, expected all: use the model's safetensors "
            "checkpoint"
        )
    values.warn_of_others(architecture)
    return config


class _Values:
    """The metadata below the architecture's name."""

    def __init__(self, header: GgufHeader) -> None:
        self.header = header
        self._prefix = f"{header.architecture}."

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, which is one for all layers."""
        value = self.header.metadata.get(self._prefix + key, default)
        if isinstance(value, list):
            if len(set(value)) == 1:
                return value[0]
            raise CheckpointError(
                f"{self.header.file} has another {self._prefix + key} in each layer, which is not read: use the "
                "model's safetensors checkpoint"
            )
        return round(value, 12) if isinstance(value, float) else value

    def read(self, setting: str, key: str, architecture: Architecture) -> Any:
        """Return the value of a setting, which must be there unless the architecture says otherwise."""
        value = self.get(key, architecture.absent.get(setting))
        if value is None and setting not in (*architecture.optional, *architecture.absent):
            raise CheckpointError(
                f"{self.header.file} has no {self._prefix + key} in its metadata: convert the model with a recent "
                "llama.cpp"
            )
        return value

    def warn_of_others(self, architecture: Architecture) -> None:
        """Name the keys that nothing was made of."""
        known = {*architecture.all_settings.values(), *_REDUNDANT}
        neutral = _NEUTRAL | {"expert_gating_func": (0, architecture.gating)}
        keys = [name.removeprefix(self._prefix) for name in self.header.metadata if name.startswith(self._prefix)]
        others = [key for key in keys if key not in known and self.get(key) not in neutral.get(key, ())]
        if others:
            told = ", ".join(f"{self._prefix}{key} = {self.get(key)!r}" for key in others)
            warnings.warn(f"{self.header.file} sets {told}, which is not understood", ResmoeWarning, stacklevel=5)


def _rotary(values: _Values) -> dict[str, Any]:
    """What transformers calls the rotary parameters."""
    base = {"rope_theta": values.get("rope.freq_base", 10000.0)}
    kind = values.get("rope.scaling.type", "none")
    if kind == "none":
        return {"rope_type": "default", **base}
    scaled = {"rope_type": kind, **base, "factor": values.get("rope.scaling.factor")}
    if kind == "yarn":
        scaled |= {
            "original_max_position_embeddings": values.get("rope.scaling.original_context_length"),
            "beta_fast": values.get("rope.scaling.yarn_beta_fast"),
            "beta_slow": values.get("rope.scaling.yarn_beta_slow"),
            "attention_factor": values.get("rope.scaling.yarn_attn_factor"),
        }
        if (multiplier := values.get("rope.scaling.yarn_log_multiplier")) is not None:
            scale = round(10 * multiplier, 6)  # a tenth of it is written, and models have the same for both
            scaled |= {"mscale": scale, "mscale_all_dim": scale}
    elif kind != "linear":
        raise CheckpointError(
            f"{values.header.file} scales rotary angles by {kind!r}, expected none, linear or yarn: use the model's "
            "safetensors checkpoint"
        )
    return {name: value for name, value in scaled.items() if value is not None}


def _float_type(tensors: Tensors) -> str:
    """The type that a decoded model is written in: that of its matrices, or the one in which most kinds keep scales."""
    kinds = {tensor.kind for _, tensor in tensors.values()}
    if "BF16" in kinds:
        return _FLOAT_TYPES["BF16"]
    return _FLOAT_TYPES["F32" if kinds == {"F32"} else "F16"]


def _rotated_part(config: dict[str, Any], values: _Values, tensors: Tensors) -> float:
    """Set or check the width of heads, and return how much of it is rotated."""
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    width, told = _rows(tensors, "blk.0.attn_q.weight", values.header) // heads, "head_dim" in config
    if config.setdefault("head_dim", width) != width:
        raise CheckpointError(
            f"{values.header.file} says its heads are {config['head_dim']} wide, and its tensors that they are "
            f"{width}: copy it again"
        )
    if width * heads == hidden and not told:
        del config["head_dim"]  # not all configs have it
    return float(values.get("rope.dimension_count", width) / width)


def _latent_heads(config: dict[str, Any], values: _Values) -> float:
    """Set the sizes of heads whose keys and values come from a latent vector; all of the part that may be is rotated.

    Since converters split the second matrix, key_length and value_length are those of the latent vector, of which there
    is one for all heads, and those of a head have names of their own.
    """
    keys, width = (
        values.get(f"attention.{part}_length_mla", values.get(f"attention.{part}_length")) for part in ("key", "value")
    )
    if keys is None or width is None:
        raise CheckpointError(
            f"{values.header.file} has no attention.key_length and value_length in its metadata: convert the model "
            "with a recent llama.cpp"
        )
    config["v_head_dim"], config["qk_nope_head_dim"] = width, keys - config["qk_rope_head_dim"]
    config["num_key_value_heads"] = config["num_attention_heads"]
    if config["model_type"] == "deepseek_v2":
        config["topk_method"] = "group_limited_greedy" if config["n_group"] > 1 else "greedy"
    return 1.0


def _rows(tensors: Tensors, name: str, header: GgufHeader) -> int:
    if name not in tensors:
        raise CheckpointError(f"{header.file} has no tensor {name!r}: the file is incomplete")
    return tensors[name][1].shape[0]


def _columns(tensors: Tensors, suffix: str, header: GgufHeader) -> int:
    """The last side of the first tensor whose name ends so."""
    pattern = suffix.replace("_exps.", ".0.")  # as older files name single experts
    for name, (_, tensor) in tensors.items():
        if name.endswith((f".{suffix}", f".{pattern}")):
            return tensor.shape[-1]
    raise CheckpointError(
        f"{header.file} has no tensor that ends in {suffix!r}: a Mixture-of-Experts model is expected, and a dense one "
        "is not compressed"
    )
