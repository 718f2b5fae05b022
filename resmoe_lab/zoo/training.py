"""Training of the embedded models: a dense model first, its feed-forward copied into every expert, then on.

This is how Mixtral is believed to have been made (sparse upcycling): a dense model is the same architecture
with one expert, so both phases run the very class of the transformers library that the checkpoint opens with.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .._core.errors import UsageError
from .._core.progress import Progress, Tick, silent
from ._saved import SavedPhase
from .corpus import training_documents
from .recipes import Phase, Recipe
from .tokenizer import BOS_ID, train_tokenizer

if TYPE_CHECKING:
    from transformers import MixtralForCausalLM, PreTrainedTokenizerFast


#: A line of the log, and a saved state to go on from, every so many steps.
REPORT_STEPS, SAVE_STEPS = 50, 500


@dataclass
class Trained:
    """A trained model with its tokenizer and its log (one row per report: phase, tokens, loss, seconds)."""

    model: MixtralForCausalLM
    tokenizer: PreTrainedTokenizerFast
    log: list[dict[str, Any]]


def train(recipe: Recipe, *, work: Path, data_dir: str | Path | None = None, progress: Progress = silent) -> Trained:
    """Train a model from nothing, or go on where a stopped training of the same recipe left off.

    Parameters
    ----------
    recipe
        What to train; the same recipe on the same machine gives the same model.
    work
        Folder for the state of an unfinished training.
    data_dir
        Searched first for the training text.
    progress
        Told the steps done and the loss; raising from it stops the training.

    Raises
    ------
    DataError
        If the training text is not there.
    """
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(recipe.seed)
    documents = training_documents(num_stories=recipe.num_stories, seed=recipe.seed, data_dir=data_dir)
    # The stories are so regular that a tenth of them teaches the tokenizer every word.
    sample = [*documents["novels"], *documents["encyclopedia"], *documents["storyworld"][: recipe.num_stories // 10]]
    tokenizer = train_tokenizer(
        sample, vocab_size=recipe.config["vocab_size"], max_length=recipe.config["max_position_embeddings"]
    )
    encoded = {name: encode(tokenizer, texts) for name, texts in documents.items()}
    text = partial(sample_sequences, tokens=encoded, length=recipe.sequence_length, bos=BOS_ID)
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    config = MixtralConfig(**recipe.config, **special)
    dense_config = MixtralConfig(**{**recipe.config, "num_local_experts": 1, "num_experts_per_tok": 1}, **special)
    log: list[dict[str, Any]] = []
    model = MixtralForCausalLM(dense_config)
    _run_phase(model, "dense", text(recipe.dense, seed=recipe.seed), recipe, log=log, work=work, progress=progress)
    model = upcycle(model, config)
    _run_phase(
        model, "sparse", text(recipe.sparse, seed=recipe.seed + 1), recipe, log=log, work=work, progress=progress
    )
    return Trained(model.eval(), tokenizer, log)


def encode(tokenizer: PreTrainedTokenizerFast, documents: list[str]) -> np.ndarray:
    """Encode documents into one row of uint16 tokens, each document between ``<s>`` and ``</s>``."""
    encodings = tokenizer(documents, verbose=False)["input_ids"]
    return np.concatenate([np.asarray([*ids, tokenizer.eos_token_id], dtype=np.uint16) for ids in encodings])


def sample_sequences(
    phase: Phase, *, tokens: dict[str, np.ndarray], length: int, bos: int, seed: int
) -> Iterator[torch.Tensor]:
    """Endless (length,) int64 sequences, each from one source, from the beginning of a random document on."""
    rng = np.random.default_rng(seed)
    names = list(phase.source_weights)
    weights = np.array([phase.source_weights[name] for name in names])
    starts = {name: np.flatnonzero(text[: len(text) - length] == bos) for name, text in tokens.items()}
    while True:
        name = names[rng.choice(len(names), p=weights / weights.sum())]
        start = rng.choice(starts[name])
        yield torch.from_numpy(tokens[name][start : start + length].astype(np.int64))


def document_positions(tokens: torch.Tensor, *, bos: int) -> torch.Tensor:
    """Positions that start again at every ``<s>``, by which transformers keeps documents from seeing each other.

    Stories that saw their neighbours' people and things would take many times as long to learn to remember their own.
    """
    places = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    return places - torch.where(tokens == bos, places, 0).cummax(dim=1).values


def upcycle(dense: MixtralForCausalLM, config: Any) -> MixtralForCausalLM:
    """Copy the one expert of a dense model into every expert of a sparse one; routers start near zero.

    Before any further step the two models compute the same function, because the top-k weights add up to one.
    """
    from transformers import MixtralForCausalLM

    model = MixtralForCausalLM(config)
    state = model.state_dict()
    for name, weight in dense.state_dict().items():
        if ".experts." in name:
            state[name].copy_(weight.expand_as(state[name]))
        elif state[name].shape == weight.shape:
            state[name].copy_(weight)
    return model


def learning_rate(phase: Phase, *, step: int, steps: int) -> float:
    """The phase's learning rate at a step: linear warm-up to the peak, then a half cosine down to the end."""
    if step < phase.warmup_steps:
        return phase.peak_lr * (step + 1) / phase.warmup_steps
    done = (step - phase.warmup_steps) / max(1, steps - phase.warmup_steps)
    return phase.end_lr + (phase.peak_lr - phase.end_lr) * 0.5 * (1 + math.cos(math.pi * done))


def _run_phase(
    model: MixtralForCausalLM,
    name: str,
    sequences: Iterator[torch.Tensor],
    recipe: Recipe,
    *,
    log: list[dict[str, Any]],
    work: Path,
    progress: Progress,
) -> None:
    phase: Phase = getattr(recipe, name)
    steps = phase.tokens // (phase.batch_size * recipe.sequence_length)
    if steps < 1:
        raise UsageError(f"phase {name} has {phase.tokens} tokens, expected at least one batch: raise its tokens")
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(_parameter_groups(model, recipe.weight_decay), lr=0.0, betas=(0.9, 0.95))
    saved = SavedPhase(work / f"{name}.safetensors", fingerprint=repr(recipe))
    first = saved.load(model, optimizer, log)
    for _ in range(first * phase.batch_size):
        next(sequences)
    # Compiled steps are about 1.4 times as fast; without a C++ compiler the plain model trains just as well.
    forward = torch.compile(model) if shutil.which("g++") and first < steps else model
    model.train()
    begun = time.perf_counter() - (log[-1]["seconds"] if first else 0.0)
    smooth = log[-1]["loss"] if first else math.nan
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(phase, step=step, steps=steps)
        tokens = torch.stack(list(islice(sequences, phase.batch_size))).to(device)
        output = forward(
            input_ids=tokens,
            labels=tokens,
            position_ids=document_positions(tokens, bos=BOS_ID),
            output_router_logits=model.config.num_local_experts > 1,
            use_cache=False,
        )
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss = float(output.loss.detach())
        smooth = loss if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss
        if (step + 1) % REPORT_STEPS == 0 or step + 1 == steps:
            log.append({"phase": name, "step": step + 1, "loss": smooth, "seconds": time.perf_counter() - begun})
            progress(Tick(f"train {name}", step + 1, steps, {"loss": smooth}))
        if (step + 1) % SAVE_STEPS == 0 or step + 1 == steps:
            saved.save(model, optimizer, log, step=step + 1)


def _parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
