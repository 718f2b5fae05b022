"""Models of a few thousand weights, saved by transformers itself: one function a family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import MixtralConfig, MixtralForCausalLM, PreTrainedModel


def mixtral(seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = MixtralConfig(
        vocab_size=64,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    return MixtralForCausalLM(config).eval()


#: Family name -> a model of it.
PICO: dict[str, Callable[..., PreTrainedModel]] = {"mixtral": mixtral}


def save(model: PreTrainedModel, folder: Path, *, shards: bool = False) -> Path:
    """Save a model as the hub would have it, in several files if asked."""
    model.save_pretrained(folder, max_shard_size="8KB" if shards else "5GB")
    return folder
