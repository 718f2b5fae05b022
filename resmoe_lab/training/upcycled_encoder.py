"""Sparse upcycling of a BERT encoder: the feed-forwards of its top layers become mixtures of experts.

transformers has no encoder with BERT's layers (post-norm, biases) and experts, so the feed-forward of a layer is
replaced inside the model of transformers: everything else of it stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .._core.errors import CheckpointError
from ..experts import Family
from ..experts._layout import Part, Shape, config_int
from .expert_training import initialize_router, redraw
from .upcycling import neuron_permutations

if TYPE_CHECKING:
    from transformers import BertModel

#: One parameter an expert: the gradients of one for all would have to be put together in every step.
_PARTS = (
    Part("w1", "up_proj.{k}"),
    Part("b1", "up_proj_bias.{k}", vector=True),
    Part("w2", "down_proj.{k}", transposed=True),
)
#: An expert's tokens are padded to a multiple: kernels of 16 bit products are made anew for every number of rows.
_ROWS = 64


@dataclass(frozen=True)
class EncoderUpcycling:
    """Everything that determines an upcycled encoder before it is fine-tuned.

    Parameters
    ----------
    moe_layers
        Number of top layers that get experts.
    num_experts, top_k
        N, and experts per token.
    redrawn, remembered
        As for :class:`~resmoe_lab.zoo.upcycle_recipes.Upcycling`.
    seed
        Seed of the routers, of what is drawn again and of the permutations of neurons.
    """

    moe_layers: int = 2
    num_experts: int = 8
    top_k: int = 2
    redrawn: float = 0.2
    remembered: float = 0.5
    seed: int = 0


class Experts(nn.Module):
    """The experts of one layer, called as the fused experts of transformers 5: ``W2 act(W1 x + b1)``.

    Parameters
    ----------
    up, bias, down
        (p_I, p), (p_I,) and (p, p_I): the dense feed-forward, which every expert begins as a copy of.
    num_experts
        N.
    activation
        The network's activation function.
    """

    def __init__(
        self, up: Tensor, bias: Tensor, down: Tensor, *, num_experts: int, activation: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.up_proj, self.up_proj_bias, self.down_proj = (
            nn.ParameterList(weight.detach().clone() for _ in range(num_experts)) for weight in (up, bias, down)
        )
        self.act_fn = activation

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Compute the (T, p) weighted sum of the selected experts of (T, p) tokens."""
        output = torch.zeros_like(hidden_states)
        for expert, (up, bias, down) in enumerate(zip(self.up_proj, self.up_proj_bias, self.down_proj, strict=True)):
            tokens, places = torch.where(top_k_index == expert)
            inputs = F.pad(hidden_states[tokens], (0, 0, 0, -len(tokens) % _ROWS))
            outputs = F.linear(self.act_fn(F.linear(inputs, up, bias)), down)[: len(tokens)]
            weighted = outputs * top_k_weights[tokens, places, None]
            output = output.index_add(0, tokens, weighted.to(output.dtype))
        return output


class RoutedFeedForward(nn.Module):
    """A mixture of experts in the place of both matrices of a feed-forward.

    The bias of the output belongs to no neuron: as the weights of a token's experts add up to one, all share one bias.

    Parameters
    ----------
    experts, top_k
        The experts, and how many of them a token gets.
    bias
        (p,) bias of the output.
    """

    def __init__(self, experts: Experts, top_k: int, bias: Tensor) -> None:
        super().__init__()
        self.gate = nn.Linear(len(bias), len(experts.down_proj), bias=False)
        self.experts, self.top_k = experts, top_k
        self.output_bias = nn.Parameter(bias.detach().clone())

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute the feed-forward of (B, T, p) tokens."""
        flat = hidden.flatten(0, 1)
        with torch.autocast(hidden.device.type, enabled=False):  # which experts are chosen must not depend on rounding
            logits = self.gate(hidden.float())
        scores, index = logits.flatten(0, 1).topk(self.top_k, dim=-1)
        output: Tensor = self.experts(flat, index, scores.softmax(dim=-1)) + self.output_bias
        return output.view_as(hidden)


class UpcycledBert(Family):
    """Where the experts of a classifier on an upcycled BERT are; no checkpoint holds one, so it is not registered."""

    name = "upcycled-bert"
    model_types = ()
    block = module = "encoder.encoder.layer.{layer}.intermediate"
    parts = tuple(replace(part, key=f"experts.{part.key}") for part in _PARTS)
    module_parts = _PARTS

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """Return the sizes that :func:`upcycle_encoder` has put into the config."""
        names = ("num_experts", "hidden_size", "intermediate_size", "num_experts_per_tok")
        return Shape(*(config_int(config, name) for name in names))


def upcycle_encoder(dense: BertModel, recipe: EncoderUpcycling) -> list[int]:
    """Turn the feed-forwards of the top layers of a BERT into experts, in place; its outputs stay what they were.

    Returns
    -------
    list of int
        The numbers of these layers.

    Raises
    ------
    CheckpointError
        If it is no BERT, or has fewer layers.
    """
    config = dense.config
    if config.model_type != "bert":
        raise CheckpointError(f"the encoder has model_type {config.model_type!r}, expected 'bert'")
    if not 1 <= recipe.moe_layers <= config.num_hidden_layers:
        raise CheckpointError(
            f"{recipe.moe_layers} layers are to get experts, expected 1 to {config.num_hidden_layers}, as there are"
        )
    config.num_experts, config.num_experts_per_tok = recipe.num_experts, recipe.top_k
    numbers = list(range(config.num_hidden_layers - recipe.moe_layers, config.num_hidden_layers))
    for number in numbers:
        layer: Any = dense.encoder.layer[number]
        inner, outer = layer.intermediate.dense, layer.output.dense
        activation = layer.intermediate.intermediate_act_fn
        options: dict[str, Any] = {"num_experts": recipe.num_experts, "activation": activation}
        experts = Experts(inner.weight, inner.bias, outer.weight, **options)
        layer.intermediate = RoutedFeedForward(experts, recipe.top_k, outer.bias)
        layer.output.dense = nn.Identity()
    return numbers


def routed_blocks(encoder: BertModel) -> list[RoutedFeedForward]:
    """Return the mixtures of experts of an upcycled encoder, from the lowest layer up."""
    return [module for module in encoder.modules() if isinstance(module, RoutedFeedForward)]


@torch.no_grad()
def let_experts_diverge(encoder: BertModel, batches: Sequence[Mapping[str, Tensor]], recipe: EncoderUpcycling) -> None:
    """Give routers clusters of their inputs, draw each expert's idle neurons again, and shuffle its neurons, in place.

    As for ``smol-moe``: without the first, a router of copies has nothing to choose; without the second, the copies
    have nothing to tell apart; with the last, aligning has work to do. Shuffling changes no output.

    Parameters
    ----------
    encoder
        Upcycled, in evaluation mode.
    batches
        What it is called with, without padding: text that its routers and experts are initialized on.
    recipe
        How it was upcycled.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    blocks = routed_blocks(encoder)
    with _recorded_inputs(blocks) as recorded:
        for batch in batches:
            encoder(**batch)
    for number, (block, rows) in enumerate(zip(blocks, recorded, strict=True)):
        inputs = torch.cat(rows).float()
        initialize_router(block.gate, inputs, seed=recipe.seed)
        chosen = block.gate(inputs).topk(recipe.top_k, dim=-1).indices
        experts = block.experts
        neurons = len(experts.up_proj_bias[0])
        orders = neuron_permutations(recipe.num_experts, neurons, seed=recipe.seed, layer=number)
        for expert, order in enumerate(orders):
            up, down = experts.up_proj[expert], experts.down_proj[expert].T
            own = inputs[(chosen == expert).any(dim=-1)]
            values = experts.act_fn(own @ up.T + experts.up_proj_bias[expert])
            contributions = values.square().sum(dim=0) * down.square().sum(dim=1)
            idle = contributions.topk(round(recipe.redrawn * neurons), largest=False).indices
            redraw((up, down), idle, remembered=recipe.remembered, generator=generator)
            for rows_of_expert in (up, down, experts.up_proj_bias[expert]):
                rows_of_expert.copy_(rows_of_expert[order])


@contextmanager
def _recorded_inputs(blocks: Sequence[RoutedFeedForward]) -> Iterator[list[list[Tensor]]]:
    """Collect the (n, p) inputs of blocks while the block runs."""
    recorded: list[list[Tensor]] = [[] for _ in blocks]
    hooks = [
        block.register_forward_pre_hook(lambda module, args, rows=rows: rows.append(args[0].flatten(0, 1)))
        for block, rows in zip(blocks, recorded, strict=True)
    ]
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()
