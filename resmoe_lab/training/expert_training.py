"""Training of an upcycled model's experts and routers, on hidden states of the frozen layers below.

Every expert begins as a copy, and a router of copies has no gradient. So the routers begin as the centers of clusters
of their inputs, and neurons that are idle on an expert's own cluster are drawn again: from the first step on, every
expert has tokens of its own and neurons of its own to learn from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from .._core.progress import Progress, silent
from ..zoo.recipes import Phase
from ..zoo.upcycle_recipes import Upcycling
from ._optimization import Losses, OptimizerLoop, Reporting
from ._training_state import TrainingState
from .activation_shards import ActivationShard, ActivationShards, rotary_embeddings, run_layers
from .corpus import training_documents, wikitext_passages
from .loop import Trained, load_balance
from .upcycling import upcycle_dense_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Steps between two rows of the log, and between two saved states.
REPORT_STEPS, SAVE_STEPS = 10, 50
#: Batches on which routers and experts are initialized.
_CLUSTERING_BATCHES = 8


def train_upcycled(
    dense: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    recipe: Upcycling,
    *,
    work: Path,
    data_dir: str | Path | None = None,
    progress: Progress = silent,
) -> Trained:
    """Upcycle a dense model and train its experts, or resume a stopped training of the same recipe.

    Parameters
    ----------
    dense, tokenizer
        The dense model; the device it is on is where the training runs.
    recipe
        What to train.
    work
        Folder for activations and for the state of an unfinished training.
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
    sparse = upcycle_dense_model(dense, recipe).requires_grad_(False)
    fingerprint = f"{recipe!r} of {_fingerprint(dense)}"
    batches = ActivationShards(
        dense,
        training_rows(tokenizer, recipe, data_dir=data_dir),
        folder=work / "activations",
        split=sparse.config.num_hidden_layers - recipe.moe_layers,
        batch_size=recipe.batch_size,
        fingerprint=fingerprint,
    )
    log: list[dict[str, Any]] = []
    _train(
        sparse,
        batches,
        recipe,
        saved=TrainingState(work / "sparse.safetensors", fingerprint=fingerprint),
        log=log,
        progress=progress,
    )
    return Trained(sparse.eval(), tokenizer, log)


def training_rows(
    tokenizer: PreTrainedTokenizerBase, recipe: Upcycling, *, data_dir: str | Path | None = None
) -> torch.Tensor:
    """Return the recipe's (R, T) int64 rows: random documents of each source, joined by end tokens."""
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
    shuffled = rng.permutation(sum(map(len, rows)))
    return torch.cat(rows)[torch.from_numpy(shuffled)]


def _fingerprint(dense: PreTrainedModel) -> str:
    """Return a few sums of weights that identify a dense model."""
    return " ".join(f"{float(weight.detach().double().sum()):.6f}" for weight in islice(dense.parameters(), 4))


def _train(
    sparse: PreTrainedModel,
    batches: ActivationShards,
    recipe: Upcycling,
    *,
    saved: TrainingState,
    log: list[dict[str, Any]],
    progress: Progress,
) -> None:
    upper = upper_layers(sparse, recipe)
    blocks = torch.nn.ModuleList(layer.mlp for layer in upper)
    experts = [weight.requires_grad_() for layer in upper for weight in layer.mlp.experts.parameters()]
    routers = [layer.mlp.gate.weight.requires_grad_() for layer in upper]
    groups = [{"params": experts, "share": 1.0}, {"params": routers, "share": recipe.router_lr}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    loop = OptimizerLoop(blocks, optimizer, saved=saved, log=log)
    if not loop.first:
        initialize_experts(
            sparse, upper, [batches[number] for number in range(min(_CLUSTERING_BATCHES, len(batches)))], recipe
        )

    def columns(losses: Losses) -> dict[str, float]:
        balance = 0.0 if losses.balance is None else float(losses.balance.detach())
        return {"balance": balance, "residual_share": residual_share(layer.mlp for layer in upper)}

    loop.run(
        _order(len(batches), recipe),
        lambda number: _losses(sparse, upper, batches[number], recipe),
        balance=recipe.balance,
        schedule=Phase({}, 0, recipe.batch_size, recipe.peak_lr, recipe.end_lr, recipe.warmup_steps),
        steps=recipe.steps,
        reporting=Reporting(
            "sparse",
            f"train {recipe.name}",
            REPORT_STEPS,
            SAVE_STEPS,
            smoothing=0.95,
            columns=columns,
            shown=("loss", "residual_share"),
        ),
        progress=progress,
    )


def upper_layers(sparse: PreTrainedModel, recipe: Upcycling) -> list[Any]:
    """Return the layers with experts."""
    return list(sparse.get_decoder().layers[-recipe.moe_layers :])


def _order(count: int, recipe: Upcycling) -> Iterator[int]:
    """Yield the numbers of the batches: in order first, then shuffled anew in every epoch."""
    yield from range(count)
    for epoch in range(1, recipe.epochs):
        yield from np.random.default_rng([recipe.seed, epoch]).permutation(count).tolist()


def _losses(sparse: PreTrainedModel, upper: list[Any], batch: ActivationShard, recipe: Upcycling) -> Losses:
    decoder, head = sparse.get_decoder(), sparse.get_output_embeddings()
    inputs, targets = batch.hidden.to(sparse.device), batch.tokens[:, 1:].to(sparse.device)
    with _recorded_router_logits(upper) as router_logits:
        hidden = decoder.norm(run_layers(upper, inputs, rotary_embeddings(decoder, inputs)))
    cross_entropy = F.cross_entropy(head(hidden[:, :-1]).flatten(0, 1), targets.flatten())
    counted = torch.ones(batch.tokens.shape, device=sparse.device)
    balance = [load_balance(logits, counted=counted, top_k=recipe.top_k) for logits in router_logits]
    return Losses(cross_entropy, torch.stack(balance).mean())


@contextmanager
def _recorded_router_logits(layers: list[Any]) -> Iterator[list[torch.Tensor]]:
    """Collect the (B * T, N) router logits of the layers while the block runs."""
    logits: list[torch.Tensor] = []
    hooks = [layer.mlp.gate.register_forward_hook(lambda module, args, out: logits.append(out[0])) for layer in layers]
    try:
        yield logits
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def initialize_experts(
    sparse: PreTrainedModel, upper: list[Any], batches: list[ActivationShard], recipe: Upcycling
) -> None:
    """Initialize routers from clusters of their inputs, and draw each expert's idle neurons again.

    A router begins with the directions of N clusters of its inputs, without the direction that all inputs share, its
    logits of unit standard deviation. Then the neurons of each expert that contribute least on its own tokens are
    drawn again, in part.

    References
    ----------
    Drop-Upcycling (arXiv 2502.19261) draws random neurons again; idle ones are missed less.
    """
    decoder = sparse.get_decoder()
    hidden = torch.cat([batch.hidden for batch in batches]).to(sparse.device)
    embeddings = rotary_embeddings(decoder, hidden)
    generator = torch.Generator().manual_seed(recipe.seed)
    for layer in upper:
        recorded: list[torch.Tensor] = []
        hook = layer.mlp.register_forward_pre_hook(
            lambda module, args, recorded=recorded: recorded.append(args[0].flatten(0, 1))
        )
        hidden = run_layers([layer], hidden, embeddings)
        hook.remove()
        [inputs] = recorded
        initialize_router(layer.mlp.gate, inputs, seed=recipe.seed)
        _, _, selected = layer.mlp.gate(inputs)
        for expert in range(recipe.num_experts):
            routed = inputs[(selected == expert).any(dim=-1)]
            redraw_idle_neurons(layer.mlp.experts, expert, routed, recipe=recipe, generator=generator)


@torch.no_grad()
def initialize_router(router: Any, inputs: torch.Tensor, *, seed: int) -> None:
    """Initialize the (N, p) weight of a router from N clusters of its (n, p) inputs, in place."""
    from sklearn.cluster import KMeans

    directions = F.normalize(inputs - inputs.mean(dim=0), dim=1).cpu().numpy()
    clusters = KMeans(len(router.weight), n_init=1, random_state=seed, max_iter=50).fit(directions)
    centers = F.normalize(torch.from_numpy(clusters.cluster_centers_).to(inputs), dim=1)
    centers -= centers.mean(dim=0)
    # The mean of all inputs is large in the highest layers, and would send most tokens to one expert.
    common = F.normalize(inputs.mean(dim=0), dim=0)
    centers -= torch.outer(centers @ common, common)
    router.weight.copy_(centers / (inputs @ centers.T).std())


@torch.no_grad()
def redraw_idle_neurons(
    experts: Any, expert: int, inputs: torch.Tensor, *, recipe: Upcycling, generator: torch.Generator
) -> None:
    """Draw the neurons again that contribute least to one expert's output on its own (n, p) inputs.

    A drawn neuron keeps ``recipe.remembered`` of its energy from the old one, so that both can still be matched; the
    rest is normal, of the scale of the neurons that are replaced.
    """
    fused, down = experts.gate_up_proj[expert], experts.down_proj[expert]
    gate, up = fused.chunk(2)
    contributions = (F.silu(inputs @ gate.T) * (inputs @ up.T)).square().mean(dim=0) * down.square().sum(dim=0)
    idle = contributions.topk(round(recipe.redrawn * len(contributions)), largest=False).indices
    redraw((gate, up, down.T), idle, remembered=recipe.remembered, generator=generator)


@torch.no_grad()
def redraw(
    matrices: Iterable[torch.Tensor], idle: torch.Tensor, *, remembered: float, generator: torch.Generator
) -> None:
    """Draw some rows of an expert's matrices again, in place; they keep `remembered` of their energy from the old."""
    for neurons in matrices:
        old = neurons[idle]
        new = torch.randn(old.shape, generator=generator).to(old) * old.square().mean().sqrt()
        neurons[idle] = remembered**0.5 * old + (1 - remembered) ** 0.5 * new


@torch.no_grad()
def residual_share(blocks: Iterable[Any]) -> float:
    """Return the share of the experts' squared norm that their mean leaves as residual, in the layer where it is least.

    Experts are compared neuron by neuron, in the order of the dense model.
    """
    shares = []
    for block in blocks:
        residual = total = 0.0
        for weight in block.experts.parameters():
            residual += float((weight - weight.mean(dim=0)).square().sum())
            total += float(weight.square().sum())
        shares.append(residual / total)
    return min(shares)
