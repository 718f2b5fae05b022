"""A text, token by token: what compression does to predictions, layers and routing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ... import plots
from ..._core.errors import UsageError
from ..._core.progress import Progress, Tick, silent
from ...checkpoint import Checkpoint
from ...experiments.token_shift import TokenShift, compare_traces, logit_lens, routing_moves
from ...plots.series import variant_label
from ...scoring.likelihood import model_window
from ...scoring.traces import TokenTrace, token_request, trace_tokens
from ..runner import WorkbenchRunner
from ._base import View

#: Longest text that is shown.
MAX_TOKENS = 1024
#: A few lines with a name, numbers and a turn, for models of English.
EXAMPLE = (
    "One morning the history of the city was read aloud in the square. In 1849 the river had frozen for the first "
    "time, and nobody knew what to do with the boats. Then a child said that boats are houses, and all went inside."
)


@dataclass(frozen=True, eq=False)
class TokensView(View):
    """A text in the original and in the compressed model.

    Parameters
    ----------
    label
        What the compressed model is called.
    pieces
        The text of each token.
    shift
        What differs.
    traces
        What the original and the compressed model do with each token.
    vocabulary
        Token id -> its text, of all tokens that are shown.
    truncated
        How many tokens of the text are left out, because the model reads no more at once.
    """

    label: str
    pieces: Sequence[str]
    shift: TokenShift
    traces: tuple[TokenTrace, TokenTrace]
    vocabulary: Mapping[int, str]
    truncated: int

    def charts(self) -> Mapping[str, Any]:
        """Return the prediction's shift by token, and the routing's by layer."""
        charts = {"predictions": plots.token_divergence(self.table())}
        shift = self.shift.routing_shift()
        return charts if shift.empty else {**charts, "routing": plots.routing_shift(shift)}

    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Return one row a token, one row a layer, and the moves from expert to expert."""
        tables = {"tokens": self.table(), "routing": self.shift.routing_shift()}
        moves = [
            (layer, old, new, int(count))
            for layer, (before, after) in self.shift.routing.items()
            for (old, new), count in np.ndenumerate(routing_moves(before, after))
            if count
        ]
        return {**tables, "moves": pd.DataFrame(moves, columns=["layer", "expert", "becomes", "tokens"])}

    def table(self) -> pd.DataFrame:
        """Return what is predicted after each token: KL, and both likeliest next tokens with their probabilities."""
        shift = self.shift
        table = pd.DataFrame({"token": shift.predicting, "text": [self.pieces[t] for t in shift.predicting]})
        table["kl"] = shift.kl
        for which, name in enumerate(("original", "compressed")):
            table[f"{name}_next"] = [self.vocabulary[int(token)] for token in shift.top[which, :, 0]]
            table[f"{name}_probability"] = shift.top_probabilities[which, :, 0]
            table[f"{name}_probability_of_what_follows"] = shift.next_probabilities[which]
        return table

    def data(self) -> dict[str, Any]:
        """Return what the picture in a browser is drawn from, as JSON knows it."""
        return self.shift.picture(self.label, self.pieces, self.vocabulary)

    def lens(self, model: Any, tokenizer: Any, tokens: Sequence[int]) -> dict[int, list[list[list[Any]]]]:
        """Return what both models would predict at some tokens if they stopped after each layer.

        Parameters
        ----------
        model, tokenizer
            The running model, whose norm and output embeddings read the states.
        tokens
            Tokens of the text.

        Returns
        -------
        dict
            Token -> for every layer, the embeddings first, text and probability of the likeliest token of both.
        """
        rows = {int(token): row for row, token in enumerate(self.shift.predicting)}
        answers = {}
        for token in tokens:
            if token in rows:
                sides = [self._read_out(model, tokenizer, trace, rows[token]) for trace in self.traces]
                answers[token] = [list(pair) for pair in zip(*sides, strict=True)]
        return answers

    @staticmethod
    def _read_out(model: Any, tokenizer: Any, trace: TokenTrace, row: int) -> list[list[Any]]:
        best = logit_lens(model, trace.states[:, row]).max(dim=-1)
        pairs = zip(best.indices.tolist(), best.values.exp().tolist(), strict=True)
        return [[tokenizer.decode([token]), round(p, 6)] for token, p in pairs]


def view_tokens(
    checkpoint: Checkpoint,
    text: str = EXAMPLE,
    *,
    method: str,
    keep: float,
    center: str = "wasserstein",
    layers: Sequence[int] | None = None,
    progress: Progress = silent,
) -> TokensView:
    """Run the original and a compressed form of a model over a text, and compare the two token by token.

    Parameters
    ----------
    checkpoint
        The model.
    text
        At least two tokens; more than the model reads at once, or than 1,024, are left out.
    method, keep, center
        How the experts are compressed.
    layers
        Which layers are compressed; all with experts if not given.
    progress
        Called at every step; raising from it cancels.

    Raises
    ------
    CheckpointError
        If the model cannot be run, or does not tell which experts a token takes.
    UsageError
        If the text has less than two tokens, or an argument is not allowed.
    """
    with WorkbenchRunner(checkpoint, layers=layers, center=center, progress=progress) as runner:
        model, tokenizer = runner.loaded
        ids, truncated = _tokens(model, tokenizer, text)
        request = token_request(model, ids)
        traces = list[TokenTrace]()
        for variant in (runner.original, runner.variant(method, keep)):
            with runner.running(variant, skips_layers=False):
                progress(Tick(f"reading the text ({variant.method})", len(traces), 2))
                all_layers = runner.family.layers(checkpoint)
                traces.append(trace_tokens(model, runner.family, request, layers=all_layers))
        shift = compare_traces(model, request, *traces)
    shown = {*ids, *(int(token) for token in np.unique(shift.top))}
    vocabulary = {token: tokenizer.decode([token]) for token in shown}
    label = variant_label(method, keep)
    pieces = [vocabulary[token] for token in ids]
    return TokensView(label, pieces, shift, (traces[0], traces[1]), vocabulary, truncated)


def _tokens(model: Any, tokenizer: Any, text: str) -> tuple[list[int], int]:
    """Ids of a text's beginning, and how many are left out."""
    longest = min(MAX_TOKENS, model_window(model, tokenizer))
    # No token has that many letters: what lies beyond is never looked at.
    ids = tokenizer(text, truncation=False, verbose=False)["input_ids"]
    if len(ids) < 2:
        raise UsageError(f"the text has {len(ids)} tokens, expected at least 2: type a few words")
    return list(ids[:longest]), max(0, len(ids) - longest)
