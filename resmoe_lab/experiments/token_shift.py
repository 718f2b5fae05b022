"""What compression does to single tokens: predictions, layers, and the experts that they take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .._core.errors import UsageError
from ..scoring.decoder import final_norm
from ..scoring.likelihood import Request
from ..scoring.readout import logits_of
from ..scoring.traces import LayerRouting, TokenTrace
from .sweep import SHIFT_COLUMNS

#: How many of the likeliest next tokens are listed.
TOP = 5
#: Predictions whose logits are in memory at once.
_CHUNK = 128


@dataclass(frozen=True, eq=False)
class TokenShift:
    """How a compressed model's reading of a text differs from the original's, token by token.

    Parameters
    ----------
    tokens
        (T,) int64: ids of the text.
    predicting
        (n,) int64: the tokens after which something is predicted, as in :class:`~resmoe_lab.scoring.traces.TokenTrace`.
    kl
        (n,) float64: KL(original || compressed) of the next token's distributions, in nats.
    top
        (2, n, 5) int64: the likeliest next tokens of the original and of the compressed model.
    top_probabilities
        (2, n, 5) float32: their probabilities.
    next_probabilities
        (2, n) float32: probability of the token that does follow; NaN after the last.
    distance
        (L + 1, n) float32: distance of the hidden states, relative to the norm of the original's.
    routing
        Layer -> the routing of the original and of the compressed model.
    """

    tokens: np.ndarray
    predicting: np.ndarray
    kl: np.ndarray
    top: np.ndarray
    top_probabilities: np.ndarray
    next_probabilities: np.ndarray
    distance: np.ndarray
    routing: Mapping[int, tuple[LayerRouting, LayerRouting]]

    def predictions(self) -> tuple[int, float, float, float]:
        """Return the number of predictions, mean KL, share with the same likeliest next token, and the largest KL."""
        agreement = float((self.top[0, :, 0] == self.top[1, :, 0]).mean())
        return len(self.kl), float(self.kl.mean()), agreement, float(self.kl.max())

    def routing_shift(self) -> pd.DataFrame:
        """Tabulate how much of the routing changes, by layer: see :func:`routing_shift`."""
        return routing_shift(self.routing)

    def rerouted(self) -> np.ndarray:
        """Return the share of its experts that each token of the text changes in each layer: (layers, T) float32.

        A token that a layer does not see is NaN.
        """
        rows = np.full((len(self.routing), len(self.tokens)), np.nan, dtype=np.float32)
        for row, (before, after) in zip(rows, self.routing.values(), strict=True):
            row[before.tokens.numpy()] = _changed(before, after).float().mean(1).numpy()
        return rows

    def picture(self, label: str, pieces: Sequence[str], vocabulary: Mapping[int, str]) -> dict[str, Any]:
        """Return what the picture in a browser is drawn from (``tokens.js``), as JSON knows it.

        Parameters
        ----------
        label
            What the compressed model is called.
        pieces
            The text of each token.
        vocabulary
            Token id -> its text, of all tokens in :attr:`top`.
        """
        top = [
            [
                [[vocabulary[int(token)], round(float(p), 6)] for token, p in zip(tokens, chances, strict=True)]
                for tokens, chances in zip(side, probabilities, strict=True)
            ]
            for side, probabilities in zip(self.top, self.top_probabilities, strict=True)
        ]
        return {
            "label": label,
            "pieces": list(pieces),
            "predicting": self.predicting.tolist(),
            "kl": [float(value) for value in self.kl],
            "top": top,
            "next": [[None if np.isnan(p) else round(float(p), 6) for p in side] for side in self.next_probabilities],
            "distance": [[round(float(value), 6) for value in layer] for layer in self.distance],
            "layers": list(self.routing),
            "count": max((before.num_experts for before, _ in self.routing.values()), default=0),
            "experts": [self._experts(layer) for layer in self.routing],
        }

    def _experts(self, layer: int) -> list[list[list[int]] | None]:
        """The experts of each token before and after, None where the layer does not see it."""
        before, after = self.routing[layer]
        rows: list[list[list[int]] | None] = [None] * len(self.tokens)
        for token, old, new in zip(
            before.tokens.tolist(), before.experts.tolist(), after.experts.tolist(), strict=True
        ):
            rows[token] = [old, new]
        return rows


@torch.no_grad()
def compare_traces(
    model: Any, request: Request, original: TokenTrace, compressed: TokenTrace, *, other: Any = None
) -> TokenShift:
    """Compare two traces of one text.

    Parameters
    ----------
    model
        Turns hidden states into logits.
    request
        The text.
    original, compressed
        As :func:`~resmoe_lab.scoring.traces.trace_tokens` records them.
    other
        The compressed model, where what lies between states and logits may be stored in another way too; the same
        model if not given.

    Raises
    ------
    UsageError
        If they are of texts of different length, or of models with different layers.
    """
    if original.states.shape != compressed.states.shape or original.routing.keys() != compressed.routing.keys():
        raise UsageError(
            f"traces of shapes {tuple(original.states.shape)} and {tuple(compressed.states.shape)} are compared, "
            "expected the same text in two forms of one model"
        )
    tokens = torch.tensor([*request.context, *request.continuation])
    predicting = original.predicting
    following = torch.full_like(predicting, -1)
    has_next = predicting + 1 < len(tokens)
    following[has_next] = tokens[predicting[has_next] + 1]
    models = model, model if other is None else other
    parts = [
        _compare_predictions(models, original.states[-1, rows], compressed.states[-1, rows], following[rows])
        for rows in torch.arange(len(predicting)).split(_CHUNK)
    ]
    kl, top, top_probabilities, next_probabilities = (
        torch.cat(list(part), dim=-1) for part in zip(*parts, strict=True)
    )
    scale = original.states.norm(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
    return TokenShift(
        tokens=tokens.numpy(),
        predicting=predicting.numpy(),
        kl=kl.numpy(),
        top=top.movedim(1, 2).numpy(),
        top_probabilities=top_probabilities.movedim(1, 2).numpy(),
        next_probabilities=next_probabilities.numpy(),
        distance=((compressed.states - original.states).norm(dim=-1) / scale).numpy(),
        routing={layer: (before, compressed.routing[layer]) for layer, before in original.routing.items()},
    )


def _compare_predictions(
    models: tuple[Any, Any], before: Tensor, after: Tensor, following: Tensor
) -> tuple[Tensor, ...]:
    """KL (n,), the likeliest tokens (2, 5, n), their probabilities, and those (2, n) of what follows."""
    pairs = zip(models, (before, after), strict=True)
    logs = torch.stack([logits_of(model, states.to(model.device, model.dtype)).float() for model, states in pairs])
    logs = logs.log_softmax(-1)
    p, q = logs.double()
    kl = (p.exp() * (p - q)).sum(-1)
    probabilities, top = logs.topk(min(TOP, logs.shape[-1]), dim=-1)
    chosen = following.to(logs.device).clamp(min=0)[None, :, None].expand(2, -1, 1)
    known = logs.gather(2, chosen)[..., 0].exp().cpu()
    known[:, following < 0] = torch.nan
    return kl.cpu(), top.transpose(1, 2).cpu(), probabilities.exp().transpose(1, 2).cpu(), known


def routing_shift(routing: Mapping[int, tuple[LayerRouting, LayerRouting]]) -> pd.DataFrame:
    """Tabulate how much the routing of tokens changes, by layer.

    Parameters
    ----------
    routing
        Layer -> routing of the same tokens before and after.

    Returns
    -------
    pandas.DataFrame
        Columns ``layer, tokens, rerouted, moved, gate_kl``: the share of the tokens whose set of experts changes, the
        share of all choices of an expert that do, and the mean KL of the softmax over the router's logits, in nats
        (NaN where the router is no matrix).
    """
    rows = []
    for layer, (before, after) in routing.items():
        changed = _changed(before, after)
        shares = float(changed.any(1).double().mean()), float(changed.double().mean())
        rows.append((layer, len(changed), *shares, _gate_kl(before, after)))
    return pd.DataFrame(rows, columns=list(SHIFT_COLUMNS))


def routing_moves(before: LayerRouting, after: LayerRouting) -> np.ndarray:
    """Count from which expert to which the tokens of a layer go after compression.

    Parameters
    ----------
    before, after
        Routing of the same tokens.

    Returns
    -------
    numpy.ndarray
        (N, N) int64. An expert that a token keeps counts on the diagonal; of the others, the strongest of those that
        it loses is paired with the strongest of those that it gains, and so on.
    """
    count = before.num_experts
    moves = np.zeros((count, count), dtype=np.int64)
    for old, new in zip(before.experts.tolist(), after.experts.tolist(), strict=True):
        same = set(old) & set(new) - {-1}
        lost, gained = ([k for k in experts if k not in same and k >= 0] for experts in (old, new))
        for pair in [*((k, k) for k in same), *zip(lost, gained, strict=False)]:
            moves[pair] += 1
    return moves


def _gate_kl(before: LayerRouting, after: LayerRouting) -> float:
    if before.log_gates is None or after.log_gates is None:
        return math.nan
    p, q = before.log_gates.double(), after.log_gates.double()
    return float((p.exp() * (p - q)).sum(-1).mean())


def _changed(before: LayerRouting, after: LayerRouting) -> Tensor:
    """Which of each token's experts (T, top_k) are not among those that it takes afterwards."""
    return ~(before.experts[:, :, None] == after.experts[:, None, :]).any(2)


@torch.no_grad()
def logit_lens(model: Any, states: Tensor) -> Tensor:
    """Return what a model would predict if it stopped after each of its layers.

    Parameters
    ----------
    model
        Its final norm and output embeddings read the states.
    states
        (L + 1, p): hidden states at one token, as :class:`~resmoe_lab.scoring.traces.TokenTrace` has them.

    Returns
    -------
    torch.Tensor
        (L + 1, V) float32: log-probabilities, those after the last layer the model's own.
    """
    states = states.to(model.device, model.dtype)
    read = torch.cat([final_norm(model)(states[None, :-1])[0], states[-1:]])
    return logits_of(model, read).float().log_softmax(-1).cpu()
