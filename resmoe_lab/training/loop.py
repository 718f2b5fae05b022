"""Training of the embedded models.

Sparse upcycling, as Mixtral is believed to have been made: a dense model first, its feed-forward copied into every
expert, then training goes on with the router. A dense model is the same architecture with one expert, so both
phases run the very class of the transformers library that the checkpoint opens with. A recipe without a dense phase
is trained with all its experts from scratch.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .._core.errors import UsageError
from .._core.progress import Progress, silent
from ..zoo.recipes import Phase, Recipe
from ._optimization import Losses, OptimizerLoop, Reporting
from ._training_state import TrainingState
from .batches import IGNORED, Batch, causal_batches, encode, paired_batches
from .corpus import training_documents
from .tokenizer import train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast


#: Steps between two rows of the log, and between two saved states.
REPORT_STEPS, SAVE_STEPS = 50, 500


@dataclass
class Trained:
    """A trained model with its tokenizer and its log (one row per report: phase, tokens, loss, seconds)."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    log: list[dict[str, Any]]


def train(recipe: Recipe, *, work: Path, data_dir: str | Path | None = None, progress: Progress = silent) -> Trained:
    """Train a model from scratch, or resume a stopped training of the same recipe.

    Parameters
    ----------
    recipe
        What to train; the same recipe on the same machine gives the same model.
    work
        Folder for the state of an unfinished training.
    data_dir
        Searched first for the training text.
    progress
        Called with the steps done and the loss; raising from it stops the training.

    Raises
    ------
    DataError
        If the training text is not there.
    """
    torch.manual_seed(recipe.seed)
    documents = training_documents(num_stories=recipe.num_stories, seed=recipe.seed, data_dir=data_dir)
    # The stories are so regular that a tenth of them teaches the tokenizer every word.
    sample = [*documents["novels"], *documents["encyclopedia"], *documents["storyworld"][: recipe.num_stories // 10]]
    tokenizer = train_tokenizer(sample, vocab_size=recipe.config["vocab_size"], max_length=recipe.window)
    encoded = {name: encode(tokenizer, texts) for name, texts in documents.items()}
    log: list[dict[str, Any]] = []
    run = partial(_run_phase, recipe=recipe, log=log, work=work, progress=progress)
    if recipe.dense is None:
        model = new_model(recipe, tokenizer)
    else:
        dense = new_model(recipe, tokenizer, dense=True)
        run(dense, "dense", _batches(dense, recipe, recipe.dense, tokens=encoded, seed=recipe.seed))
        model = upcycle(dense, new_model(recipe, tokenizer))
    run(model, "sparse", _batches(model, recipe, recipe.sparse, tokens=encoded, seed=recipe.seed + 1))
    return Trained(model.eval(), tokenizer, log)


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, *, dense: bool = False) -> PreTrainedModel:
    """Make a recipe's model, or its dense counterpart, with random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    values = special | recipe.config | (recipe.dense_config if dense else {})
    config: PreTrainedConfig = AutoConfig.for_model(recipe.model_type, **values)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model: PreTrainedModel = auto.from_config(config)
    return model


def _batches(
    model: PreTrainedModel, recipe: Recipe, phase: Phase, *, tokens: dict[str, Any], seed: int
) -> Iterator[Batch]:
    make = paired_batches if model.config.is_encoder_decoder else causal_batches
    return make(phase, tokens=tokens, length=recipe.sequence_length, seed=seed)


def upcycle(dense: PreTrainedModel, sparse: PreTrainedModel) -> PreTrainedModel:
    """Copy the one expert of a dense model into every expert of a sparse one; its routers stay as they are.

    Where the weights of a token's experts add up to one, both compute the same function before any further step.
    """
    state = sparse.state_dict()
    for name, weight in dense.state_dict().items():
        if ".experts." in name:
            state[name].copy_(weight.expand_as(state[name]))
        elif state[name].shape == weight.shape:
            state[name].copy_(weight)
    return sparse


def load_balance(router_logits: torch.Tensor, *, counted: torch.Tensor, top_k: int) -> torch.Tensor:
    """Return the balancing loss of one layer's router, a mean over sequences.

    The balancing loss of Switch Transformers (arXiv 2101.03961, equation 4), taken in every sequence as in DeepSeek-V2
    (arXiv 2405.04434, equation 23) and in every layer: over a whole batch, an expert may be left to one source of text,
    and over all layers at once, as transformers takes it, a busy expert of one layer hides an idle one of another.

    Parameters
    ----------
    router_logits
        The layer's (B * T, N) or (B, T, N) logits.
    counted
        (B, T) weights of the tokens: 0 where there is only padding.
    top_k
        Experts per token.

    Returns
    -------
    torch.Tensor
        A scalar, 1 where every expert receives equally many tokens.
    """
    num_experts = router_logits.shape[-1]
    logits = router_logits.view(*counted.shape, num_experts)
    weights = (counted / counted.sum(dim=1, keepdim=True)).unsqueeze(-1)
    picks = torch.zeros_like(logits).scatter_(2, logits.topk(top_k, dim=-1).indices, 1.0 / top_k)
    shares = (logits.softmax(dim=-1) * weights).sum(dim=1)
    return num_experts * ((picks * weights).sum(dim=1) * shares).sum(dim=-1).mean()


def _balance(output: Any, batch: Batch, top_k: int) -> torch.Tensor:
    """Mean of :func:`load_balance` over all layers of a model, of encoder and decoder where it has both."""
    labelled = (batch["labels"] != IGNORED).float()
    if "attention_mask" in batch:
        attended = batch["attention_mask"].float()
        layers = [(logits, attended) for logits in output.encoder_router_logits]
        layers += [(logits, labelled) for logits in output.decoder_router_logits]
    else:
        layers = [(logits, labelled) for logits in output.router_logits]
    return torch.stack([load_balance(logits, counted=counted, top_k=top_k) for logits, counted in layers]).mean()


def _run_phase(
    model: PreTrainedModel,
    name: str,
    batches: Iterator[Batch],
    *,
    recipe: Recipe,
    log: list[dict[str, Any]],
    work: Path,
    progress: Progress,
) -> None:
    phase: Phase = getattr(recipe, name)
    steps = phase.tokens // (phase.batch_size * recipe.sequence_length)
    if steps < 1:
        raise UsageError(f"phase {name} has {phase.tokens} tokens, expected at least one batch: raise its tokens")
    optimizer = torch.optim.AdamW(_parameter_groups(model, recipe.weight_decay), lr=0.0, betas=(0.9, 0.95))
    saved = TrainingState(work / f"{name}.safetensors", fingerprint=repr(recipe))
    loop = OptimizerLoop(model, optimizer, saved=saved, log=log)
    # Compiled steps are about 1.4 times as fast where every batch has one shape; without a C++ compiler the plain
    # model trains just as well.
    compiled = shutil.which("g++") and loop.first < steps and not model.config.is_encoder_decoder
    forward = torch.compile(model) if compiled else model
    sparse = name == "sparse"
    model.train()

    def losses(cpu_batch: Batch) -> Losses:
        batch = {key: value.to(model.device) if torch.is_tensor(value) else value for key, value in cpu_batch.items()}
        output = forward(**batch, output_router_logits=sparse)
        return Losses(output.loss, _balance(output, batch, recipe.top_k) if sparse else None)

    loop.run(
        batches,
        losses,
        balance=recipe.balance,
        schedule=phase,
        steps=steps,
        reporting=Reporting(name, f"train {name}", REPORT_STEPS, SAVE_STEPS, smoothing=0.98),
        progress=progress,
    )


def _parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
