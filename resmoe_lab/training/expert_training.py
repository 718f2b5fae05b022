"""Training of an upcycled model's experts and routers, on hidden states of the frozen layers below.

Every expert begins as a copy, and a copy's router has no gradient. So the routers begin as the centers of clusters of
what they read, and the neurons that are idle on an expert's own cluster are drawn again: from the first step on, every
expert has text of its own kind and room of its own to learn from it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from .._core.progress import Progress, Tick, silent
from ..zoo.recipes import Phase
from ..zoo.upcycle_recipes import Upcycling
from ._saved import SavedPhase
from .activation_shards import HiddenBatch, HiddenBatches, positions, through
from .corpus import training_documents, wikitext_passages
from .loop import Trained, learning_rate, load_balance
from .upcycling import upcycled

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: A line of the log, and a saved state to go on from, every so many steps.
REPORT_STEPS, SAVE_STEPS = 10, 50
#: Batches on which ties are broken.
_SURVEYED = 8


def train_upcycled(
    dense: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    recipe: Upcycling,
    *,
    work: Path,
    data_dir: str | Path | None = None,
    progress: Progress = silent,
) -> Trained:
    """Upcycle a dense model and train its experts, or go on where a stopped training of the same recipe left off.

    Parameters
    ----------
    dense, tokenizer
        The dense model; the device it is on is where the training runs.
    recipe
        What to train.
    work
        Folder for hidden states and for the state of an unfinished training.
    data_dir
        Searched first for the training text.
    progress
        Told the steps done and the loss; raising from it stops the training.

    Raises
    ------
    DataError
        If the training text is not there.
    """
    torch.manual_seed(recipe.seed)
    sparse = upcycled(dense, recipe).requires_grad_(False)
    fingerprint = f"{recipe!r} of {_fingerprint(dense)}"
    batches = HiddenBatches(
        dense,
        training_rows(tokenizer, recipe, data_dir=data_dir),
        folder=work / "hidden",
        split=sparse.config.num_hidden_layers - recipe.moe_layers,
        batch_size=recipe.batch_size,
        fingerprint=fingerprint,
    )
    log: list[dict[str, Any]] = []
    _train(
        sparse,
        batches,
        recipe,
        saved=SavedPhase(work / "sparse.safetensors", fingerprint=fingerprint),
        log=log,
        progress=progress,
    )
    return Trained(sparse.eval(), tokenizer, log)


def training_rows(
    tokenizer: PreTrainedTokenizerBase, recipe: Upcycling, *, data_dir: str | Path | None = None
) -> torch.Tensor:
    """Return the recipe's (R, T) int64 rows: random documents of each source on end, an end token between them."""
    documents = training_documents(num_stories=0, seed=recipe.seed, data_dir=data_dir)
    if "wikitext" in recipe.source_weights:
        documents["wikitext"] = wikitext_passages(data_dir=data_dir)
    rng = np.random.default_rng(recipe.seed)
    rows = []
    for name, share in recipe.source_weights.items():
        count = round(recipe.rows * share) * recipe.sequence_length
        tokens: list[int] = []
        order = rng.permutation(len(documents[name]))
        for number in order:
            tokens += [*tokenizer(documents[name][number], verbose=False)["input_ids"], tokenizer.eos_token_id]
            if len(tokens) >= count:
                break
        whole = min(count, len(tokens)) // recipe.sequence_length * recipe.sequence_length
        rows.append(torch.tensor(tokens[:whole]).view(-1, recipe.sequence_length))
    together = torch.cat(rows)
    return together[torch.from_numpy(rng.permutation(len(together)))]


def _fingerprint(dense: PreTrainedModel) -> str:
    """A few numbers that tell one dense model from another."""
    return " ".join(f"{float(weight.detach().double().sum()):.6f}" for weight in islice(dense.parameters(), 4))


def _train(
    sparse: PreTrainedModel,
    batches: HiddenBatches,
    recipe: Upcycling,
    *,
    saved: SavedPhase,
    log: list[dict[str, Any]],
    progress: Progress,
) -> None:
    upper = upper_layers(sparse, recipe)
    blocks = torch.nn.ModuleList(layer.mlp for layer in upper)
    experts = [weight.requires_grad_() for layer in upper for weight in layer.mlp.experts.parameters()]
    routers = [layer.mlp.gate.weight.requires_grad_() for layer in upper]
    groups = [{"params": experts, "share": 1.0}, {"params": routers, "share": recipe.router_lr}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    first = saved.load(blocks, optimizer, log)
    if not first:
        break_ties(sparse, upper, [batches[number] for number in range(min(_SURVEYED, len(batches)))], recipe)
    phase = Phase({}, 0, recipe.batch_size, recipe.peak_lr, recipe.end_lr, recipe.warmup_steps)
    begun = time.perf_counter() - (log[-1]["seconds"] if first else 0.0)
    smooth = log[-1]["loss"] if first else math.nan
    for step, number in enumerate(islice(_order(len(batches), recipe), first, recipe.steps), start=first):
        for group in optimizer.param_groups:
            group["lr"] = group["share"] * learning_rate(phase, step=step, steps=recipe.steps)
        nats, unevenness = _losses(sparse, upper, batches[number], recipe)
        (nats + recipe.balance * unevenness).backward()
        torch.nn.utils.clip_grad_norm_([*experts, *routers], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss = float(nats.detach())
        smooth = loss if math.isnan(smooth) else 0.95 * smooth + 0.05 * loss
        if (step + 1) % REPORT_STEPS == 0 or step + 1 == recipe.steps:
            row = {"phase": "sparse", "step": step + 1, "loss": smooth, "seconds": time.perf_counter() - begun}
            row |= {"balance": float(unevenness.detach())}
            log.append(row | {"apart": apart(layer.mlp for layer in upper)})
            progress(Tick(f"train {recipe.name}", step + 1, recipe.steps, {"loss": smooth, "apart": log[-1]["apart"]}))
        if (step + 1) % SAVE_STEPS == 0 or step + 1 == recipe.steps:
            saved.save(blocks, optimizer, log, step=step + 1)


def upper_layers(sparse: PreTrainedModel, recipe: Upcycling) -> list[Any]:
    """The layers with experts."""
    return list(sparse.get_decoder().layers[-recipe.moe_layers :])


def _order(count: int, recipe: Upcycling) -> Iterator[int]:
    """Numbers of the batches: in order first, then shuffled anew in every epoch."""
    yield from range(count)
    for epoch in range(1, recipe.epochs):
        yield from np.random.default_rng([recipe.seed, epoch]).permutation(count).tolist()


def _losses(
    sparse: PreTrainedModel, upper: list[Any], batch: HiddenBatch, recipe: Upcycling
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss in nats a token, and the routers' imbalance."""
    decoder, head = sparse.get_decoder(), sparse.get_output_embeddings()
    entering, targets = batch.entering.to(sparse.device), batch.tokens[:, 1:].to(sparse.device)
    with _watched_routers(upper) as routed:
        hidden = decoder.norm(through(upper, entering, positions(decoder, entering)))
    nats = F.cross_entropy(head(hidden[:, :-1]).flatten(0, 1), targets.flatten())
    counted = torch.ones(batch.tokens.shape, device=sparse.device)
    unevenness = [load_balance(logits, counted=counted, top_k=recipe.top_k) for logits in routed]
    return nats, torch.stack(unevenness).mean()


@contextmanager
def _watched_routers(layers: list[Any]) -> Iterator[list[torch.Tensor]]:
    """Collect the (B * T, N) router logits of the layers while the block runs."""
    logits: list[torch.Tensor] = []
    hooks = [layer.mlp.gate.register_forward_hook(lambda module, args, out: logits.append(out[0])) for layer in layers]
    try:
        yield logits
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def break_ties(sparse: PreTrainedModel, upper: list[Any], batches: list[HiddenBatch], recipe: Upcycling) -> None:
    """Give every router a reason to choose, and every expert neurons of its own.

    A router begins with the directions of N clusters of what it reads, without the direction that all of it shares, its
    logits of unit spread. Then each expert's neurons that give least on the tokens that go to it are drawn again, in
    part.

    References
    ----------
    Drop-Upcycling (arXiv 2502.19261) draws random neurons again; those that hardly speak are missed less.
    """
    decoder = sparse.get_decoder()
    hidden = torch.cat([batch.entering for batch in batches]).to(sparse.device)
    places = positions(decoder, hidden)
    generator = torch.Generator().manual_seed(recipe.seed)
    for layer in upper:
        read: list[torch.Tensor] = []
        hook = layer.mlp.register_forward_pre_hook(lambda module, args, read=read: read.append(args[0].flatten(0, 1)))
        hidden = through([layer], hidden, places)
        hook.remove()
        _seed_router(layer.mlp.gate, read[0], recipe)
        _, _, chosen = layer.mlp.gate(read[0])
        for expert in range(recipe.num_experts):
            own = read[0][(chosen == expert).any(dim=-1)]
            redraw_idle_neurons(layer.mlp.experts, expert, own, recipe=recipe, generator=generator)


def _seed_router(router: Any, inputs: torch.Tensor, recipe: Upcycling) -> None:
    from sklearn.cluster import KMeans

    directions = F.normalize(inputs - inputs.mean(dim=0), dim=1).cpu().numpy()
    clusters = KMeans(recipe.num_experts, n_init=1, random_state=recipe.seed, max_iter=50).fit(directions)
    centers = F.normalize(torch.from_numpy(clusters.cluster_centers_).to(inputs), dim=1)
    centers -= centers.mean(dim=0)
    # What all tokens have in common is large in the highest layers, and would send most of them to one expert.
    common = F.normalize(inputs.mean(dim=0), dim=0)
    centers -= torch.outer(centers @ common, common)
    router.weight.copy_(centers / (inputs @ centers.T).std())


@torch.no_grad()
def redraw_idle_neurons(
    experts: Any, expert: int, inputs: torch.Tensor, *, recipe: Upcycling, generator: torch.Generator
) -> None:
    """Draw the neurons again that give least to one expert's output on its own (n, p) inputs.

    A drawn neuron keeps ``recipe.remembered`` of its energy from the old one, so that both are still recognised as the
    same; the rest is normal, of the size of those it replaces.
    """
    fused, down = experts.gate_up_proj[expert], experts.down_proj[expert]
    gate, up = fused.chunk(2)
    given = (F.silu(inputs @ gate.T) * (inputs @ up.T)).square().mean(dim=0) * down.square().sum(dim=0)
    idle = given.topk(round(recipe.redrawn * len(given)), largest=False).indices
    for neurons in (gate, up, down.T):
        old = neurons[idle]
        new = torch.randn(old.shape, generator=generator).to(old) * old.square().mean().sqrt()
        neurons[idle] = recipe.remembered**0.5 * old + (1 - recipe.remembered) ** 0.5 * new


@torch.no_grad()
def apart(blocks: Iterable[Any]) -> float:
    """Share of the experts' energy that their mean leaves as residual, in the layer where it is least.

    Experts are compared neuron by neuron, in the order they were copied in.
    """
    shares = []
    for block in blocks:
        rest = whole = 0.0
        for weight in block.experts.parameters():
            rest += float((weight - weight.mean(dim=0)).square().sum())
            whole += float(weight.square().sum())
        shares.append(rest / whole)
    return min(shares)
