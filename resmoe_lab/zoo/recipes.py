"""The recipes of the zoo: just values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Phase:
    """One stretch of training with its own learning-rate curve: linear warm-up, then a cosine down to `end_lr`.

    ``source_weights`` says how often a sequence comes from each source of
    :func:`~resmoe_lab.zoo.corpus.training_documents`.
    """

    source_weights: dict[str, float]
    tokens: int
    batch_size: int
    peak_lr: float
    end_lr: float
    warmup_steps: int = 100


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a zoo model becomes.

    Parameters
    ----------
    config
        Keyword arguments of the model's configuration class in transformers.
    dense, sparse
        The two phases: with one expert, and with all of them.
    """

    name: str
    seed: int
    config: dict[str, Any]
    dense: Phase
    sparse: Phase
    num_stories: int
    sequence_length: int = 256
    weight_decay: float = 0.1

    def as_dict(self) -> dict[str, Any]:
        """The recipe as plain values, for the model card."""
        return asdict(self)


MIXTRAL_TINY = Recipe(
    name="mixtral-tiny",
    seed=0,
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
        "router_aux_loss_coef": 0.02,
        "initializer_range": 0.05,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": False,
    },
    # Stories first: what has to be remembered is learned sooner where little else is to be learned.
    dense=Phase(
        source_weights={"storyworld": 0.6, "novels": 0.24, "encyclopedia": 0.16},
        tokens=2_700_000,
        batch_size=4,
        peak_lr=3e-3,
        end_lr=5e-4,
    ),
    sparse=Phase(
        source_weights={"storyworld": 0.4, "novels": 0.36, "encyclopedia": 0.24},
        tokens=2_700_000,
        batch_size=8,
        peak_lr=1.5e-3,
        end_lr=1e-5,
    ),
    num_stories=50_000,
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (MIXTRAL_TINY,)}
