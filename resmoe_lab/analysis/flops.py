"""What a model costs to run, counted from shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..checkpoint import Checkpoint
from ..experts import family_of
from ..methods import Clusters, CompressedLayer, Dense, LowRank, Neurons, Piece, SeparateLowRank, Sparse, piece_tensors

#: Multiplications and additions in one of the paper's multiply-accumulates.
_BOTH = 2


def piece_multiplications(piece: Piece, matrices: int) -> int:
    """Multiplications that one token costs in a stored piece of an expert.

    Parameters
    ----------
    piece
        What is stored; a meta tensor will do.
    matrices
        Matrices of an expert: 2, or 3 with a gate. Low-rank factors share their left one among them.
    """
    return _MULTIPLICATIONS[type(piece)](piece, matrices)


_MULTIPLICATIONS: dict[type, Callable[[Any, int], int]] = {
    Dense: lambda piece, _: piece.matrix.numel(),
    Sparse: lambda piece, _: piece.values.numel(),
    LowRank: lambda piece, matrices: matrices * piece.left.numel() + piece.right.numel(),
    SeparateLowRank: lambda piece, _: sum(tensor.numel() for tensor in piece_tensors(piece)),
    Neurons: lambda piece, _: piece.rows.numel(),
    Clusters: lambda piece, _: piece.centroids.numel(),
}


def layer_flops(layer: CompressedLayer, *, top_k: int, matrices: int) -> float:
    """FLOPs that one token costs in a compressed layer's experts, as the factored runtime computes them.

    Every selected expert costs its piece (a mean, where pieces differ), the center is computed once for all of them.

    Parameters
    ----------
    layer
        The compressed experts.
    top_k
        Experts that a token selects.
    matrices
        Matrices of an expert: 2, or 3 with a gate.
    """
    owners = range(len(layer.pieces)) if layer.groups is None else layer.groups
    mean = sum(piece_multiplications(layer.pieces[k], matrices) for k in owners) / layer.num_experts
    center = 0 if layer.center is None else math.prod(layer.pieces[0].shape)
    return _BOTH * (top_k * mean + center)


def model_flops(checkpoint: Checkpoint, tokens: int) -> int:
    """FLOPs of a dense forward pass over one sequence: every product with a weight, and those of attention.

    Parameters
    ----------
    checkpoint
        A decoder-only model, uncompressed.
    tokens
        Length of the sequence.

    Notes
    -----
    Embedding look-ups cost nothing; an output matrix tied to the embeddings is counted as the product that it is.
    Norms, activations and biases are left out, as ``torch.utils.flop_counter`` leaves them out.
    """
    family, config = family_of(checkpoint), checkpoint.config
    shape, layers = family.shape(config), family.layers(checkpoint)
    experts = {key for layer in layers for key in family.expert_keys(layer, shape.num_experts)}
    weights = 0.0
    for name, info in checkpoint.tensors.items():
        if len(info.shape) < 2 or ("embed" in name and not config.get("tie_word_embeddings")):
            continue
        share = shape.top_k / shape.num_experts if name in experts else 1.0
        weights += share * math.prod(info.shape)
    width = config["num_attention_heads"] * (
        config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    )
    attention = 2 * config["num_hidden_layers"] * width * tokens  # queries with keys, and weights with values
    return round(_BOTH * tokens * (weights + attention))
