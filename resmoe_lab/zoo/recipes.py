"""The recipes of the zoo's models."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Phase:
    """One phase of training with its learning-rate schedule: linear warm-up, then a cosine decay to `end_lr`.

    ``source_weights`` are the sampling weights of the sources of
    :func:`~resmoe_lab.training.corpus.training_documents`.
    """

    source_weights: dict[str, float]
    tokens: int
    batch_size: int
    peak_lr: float
    end_lr: float
    warmup_steps: int = 100


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a zoo model.

    Parameters
    ----------
    model_type, config
        The transformers architecture, and the arguments of its configuration class.
    top_k, window
        Experts per token, and the maximum length of a text.
    sparse
        The training phase with all experts.
    num_stories
        Number of StoryWorld stories in the training data.
    dense, dense_config
        The phase before it, and the changes of `config` for a single expert in that phase; None for a model whose
        experts are trained from random initialization.
    balance
        Weight of :func:`~resmoe_lab.training.loop.load_balance` in the loss of the sparse phase.
    """

    name: str
    model_type: str
    seed: int
    config: dict[str, Any]
    top_k: int
    window: int
    sparse: Phase
    num_stories: int
    dense: Phase | None = None
    dense_config: dict[str, Any] = field(default_factory=dict)
    sequence_length: int = 256
    weight_decay: float = 0.1
    balance: float = 0.05

    @property
    def phases(self) -> dict[str, Phase]:
        """Return the phases by name, in order."""
        return {name: phase for name, phase in (("dense", self.dense), ("sparse", self.sparse)) if phase is not None}

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values, for the model card."""
        return asdict(self)


MIXTRAL_TINY = Recipe(
    name="mixtral-tiny",
    model_type="mixtral",
    seed=0,
    top_k=2,
    window=256,
    config={
        "vocab_size": 3072,
        "hidden_size": 128,
        "intermediate_size": 448,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "max_position_embeddings": 256,
        "sliding_window": None,
        # The training loop balances the experts of every layer, see `balance`.
        "router_aux_loss_coef": 0.0,
        "initializer_range": 0.05,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": False,
    },
    dense_config={"num_local_experts": 1, "num_experts_per_tok": 1},
    # Many stories first: copying from context is learned faster from data that needs it often.
    dense=Phase(
        source_weights={"storyworld": 0.6, "novels": 0.2, "encyclopedia": 0.2},
        tokens=3_000_000,
        batch_size=4,
        peak_lr=3e-3,
        end_lr=1e-3,
    ),
    sparse=Phase(
        source_weights={"storyworld": 0.25, "novels": 0.4, "encyclopedia": 0.35},
        tokens=8_000_000,
        batch_size=8,
        peak_lr=2e-3,
        end_lr=2e-5,
    ),
    num_stories=50_000,
)

DEEPSEEK_TINY = Recipe(
    name="deepseek-tiny",
    model_type="deepseek_v2",
    seed=0,
    top_k=6,
    window=256,
    config={
        "vocab_size": 3072,
        "hidden_size": 128,
        "intermediate_size": 384,
        "moe_intermediate_size": 48,
        "num_hidden_layers": 4,
        "first_k_dense_replace": 1,
        "n_routed_experts": 64,
        "n_shared_experts": 1,
        "num_experts_per_tok": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "q_lora_rank": None,
        "kv_lora_rank": 64,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 16,
        "v_head_dim": 32,
        # DeepSeek-V2 does not normalize the weights of the selected experts: six of 64 nearly equal ones sum to 6 / 64.
        "routed_scaling_factor": 64 / 6,
        "max_position_embeddings": 256,
        "initializer_range": 0.05,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": False,
    },
    dense_config={"n_routed_experts": 1, "num_experts_per_tok": 1, "routed_scaling_factor": 1.0},
    dense=Phase(
        source_weights={"storyworld": 0.6, "novels": 0.2, "encyclopedia": 0.2},
        tokens=2_500_000,
        batch_size=4,
        peak_lr=3e-3,
        end_lr=1e-3,
    ),
    sparse=Phase(
        source_weights={"storyworld": 0.3, "novels": 0.4, "encyclopedia": 0.3},
        tokens=5_000_000,
        batch_size=8,
        peak_lr=2e-3,
        end_lr=2e-5,
    ),
    num_stories=50_000,
)

SWITCH_TINY = Recipe(
    name="switch-tiny",
    model_type="switch_transformers",
    seed=0,
    top_k=1,
    window=256,
    config={
        "vocab_size": 3072,
        "d_model": 128,
        "d_kv": 32,
        "d_ff": 384,
        "num_layers": 2,
        "num_sparse_encoder_layers": 1,
        "num_decoder_layers": 2,
        "num_sparse_decoder_layers": 1,
        "num_heads": 4,
        "num_experts": 8,
        "expert_capacity": 64,
        "dropout_rate": 0.0,
        "router_jitter_noise": 0.0,
        "router_aux_loss_coef": 0.0,
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
        "tie_word_embeddings": True,
    },
    sparse=Phase(
        source_weights={"storyworld": 0.8, "novels": 0.1, "encyclopedia": 0.1},
        tokens=10_000_000,
        batch_size=8,
        peak_lr=2e-3,
        end_lr=2e-5,
    ),
    num_stories=50_000,
    sequence_length=128,
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (MIXTRAL_TINY, DEEPSEEK_TINY, SWITCH_TINY)}
