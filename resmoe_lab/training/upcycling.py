"""Sparse upcycling of a published dense model: experts in its top layers, dense layers below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .._core.errors import CheckpointError
from ..zoo.upcycle_recipes import Upcycling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Qwen2MoeConfig

#: Architectures with the blocks of Qwen2-MoE.
LLAMA_LIKE = ("llama", "mistral", "qwen2")
#: Fields of the same name in both configurations.
_SHARED_FIELDS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "hidden_act", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings"),
    *("rope_parameters", "bos_token_id", "eos_token_id", "pad_token_id"),
)
#: Largest allowed difference of a logit after upcycling, relative to the largest logit; rounding errors only.
TOLERANCE = 1e-4


def sparse_config(dense: Any, recipe: Upcycling) -> Qwen2MoeConfig:
    """Return the Qwen2-MoE configuration with the dense model's sizes.

    Raises
    ------
    CheckpointError
        If the dense model computes something that a Qwen2-MoE does not.
    """
    from transformers import Qwen2MoeConfig

    if dense.model_type not in LLAMA_LIKE:
        raise CheckpointError(
            f"the dense model has model_type {dense.model_type!r}, expected one of {', '.join(LLAMA_LIKE)}"
        )
    if getattr(dense, "sliding_window", None) and getattr(dense, "use_sliding_window", True):
        raise CheckpointError(f"the dense model has a sliding window of {dense.sliding_window} tokens, expected none")
    if not 1 <= recipe.moe_layers <= dense.num_hidden_layers:
        raise CheckpointError(
            f"{recipe.moe_layers} layers are to get experts, expected 1 to {dense.num_hidden_layers}, as there are"
        )
    values = {name: getattr(dense, name) for name in _SHARED_FIELDS}
    values["head_dim"] = getattr(dense, "head_dim", None) or dense.hidden_size // dense.num_attention_heads
    return Qwen2MoeConfig(
        **values,
        qkv_bias=dense.model_type == "qwen2",
        mlp_only_layers=list(range(dense.num_hidden_layers - recipe.moe_layers)),
        num_experts=recipe.num_experts,
        num_experts_per_tok=recipe.top_k,
        moe_intermediate_size=dense.intermediate_size,
        shared_expert_intermediate_size=0,
        # The weights of a token's experts add up to one, so that copies of one expert compute the same as it.
        norm_topk_prob=True,
        router_aux_loss_coef=0.0,
    )


def upcycle_dense_model(dense: PreTrainedModel, recipe: Upcycling) -> PreTrainedModel:
    """Copy a dense model's feed-forwards into all experts of its top layers, and share every other weight with it.

    Returns
    -------
    PreTrainedModel
        A Qwen2-MoE that computes what the dense model computes, whatever its routers select.

    Raises
    ------
    CheckpointError
        If the dense model has a weight that has no place, or the two do not compute the same.
    """
    from transformers import Qwen2MoeForCausalLM

    sparse: Any = Qwen2MoeForCausalLM(sparse_config(dense.config, recipe)).eval()
    state = sparse.state_dict()
    shared: dict[str, torch.Tensor] = {}
    for name, weight in dense.state_dict().items():
        if name in state:
            shared[name] = weight
        elif not _copy_to_experts(name, weight, state):
            raise CheckpointError(f"the dense model's {name} has no place in a Qwen2-MoE: it cannot be upcycled")
    sparse.load_state_dict(state | shared, assign=True)
    sparse.tie_weights()
    _check_same(dense, sparse, recipe)
    return sparse.to(dense.dtype)


def _copy_to_experts(name: str, weight: torch.Tensor, state: dict[str, torch.Tensor]) -> bool:
    """Copy one matrix of a feed-forward into every expert of its layer, in place."""
    block, _, part = name.rpartition(".mlp.")
    half = weight.shape[0]
    rows = {"gate_proj.weight": slice(0, half), "up_proj.weight": slice(half, None), "down_proj.weight": slice(None)}
    fused = f"{block}.mlp.experts.{'down_proj' if part.startswith('down') else 'gate_up_proj'}"
    if part not in rows or fused not in state:
        return False
    state[fused][:, rows[part]] = weight
    return True


@torch.no_grad()
def _check_same(dense: PreTrainedModel, sparse: PreTrainedModel, recipe: Upcycling) -> None:
    generator = torch.Generator().manual_seed(recipe.seed)
    tokens = torch.randint(dense.config.vocab_size, (1, 32), generator=generator)
    before, after = dense(tokens).logits, sparse(tokens).logits
    difference = float((before - after).abs().max() / before.abs().max())
    if not difference < TOLERANCE:
        raise CheckpointError(f"the upcycled model's logits differ by {difference:.1e}, expected rounding errors")


def neuron_permutations(num_experts: int, neurons: int, *, seed: int, layer: int) -> torch.Tensor:
    """Return the permutations of an upcycled zoo model: row i of expert k was row ``[k, i]`` of its dense model.

    Returns
    -------
    torch.Tensor
        (N, p_I) int64.
    """
    generator = torch.Generator().manual_seed(1000 * seed + layer)
    return torch.stack([torch.randperm(neurons, generator=generator) for _ in range(num_experts)])
