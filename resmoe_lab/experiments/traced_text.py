"""A text that a model has read, with which the readings of its compressed forms are compared."""

from __future__ import annotations

from typing import Any

from .._core.errors import UsageError
from ..checkpoint import Checkpoint
from ..experts import family_of
from ..scoring.likelihood import model_window
from ..scoring.traces import token_request, trace_tokens
from .token_shift import TokenShift, compare_traces


class TracedText:
    """What a model makes of every token of a text.

    Parameters
    ----------
    model, tokenizer
        The model that others are compared with; it reads the text at once.
    text
        At least two tokens; what does not fit into the model's window is left out.
    checkpoint
        That the model was loaded from, packed or not.
    longest
        No more tokens than that are read.

    Raises
    ------
    UsageError
        If the text has less than two tokens.
    CheckpointError
        If the family's experts do not tell which of them a token takes (Llama 4).
    """

    def __init__(
        self, model: Any, tokenizer: Any, text: str, *, checkpoint: Checkpoint, longest: int | None = None
    ) -> None:
        window = model_window(model, tokenizer)
        ids = tokenizer(text, verbose=False)["input_ids"][: min(window, longest or window)]
        if len(ids) < 2:
            raise UsageError(f"the text has {len(ids)} tokens, expected at least 2: give a few words")
        self._model, self._tokenizer, self._family = model, tokenizer, family_of(checkpoint)
        self.request = token_request(model, ids)
        self._layers = traced_layers(checkpoint)
        self._trace = trace_tokens(model, self._family, self.request, layers=self._layers)
        self._pieces = [str(tokenizer.decode([token])) for token in ids]

    def shift(self, model: Any) -> TokenShift:
        """Return what another form of the model, or the same with other experts, changes in the text."""
        trace = trace_tokens(model, self._family, self.request, layers=self._layers)
        return compare_traces(self._model, self.request, self._trace, trace, other=model)

    def picture(self, shift: TokenShift, label: str) -> dict[str, Any]:
        """Return what the picture of the text's tokens is drawn from: see :meth:`.TokenShift.picture`."""
        vocabulary = {token: str(self._tokenizer.decode([token])) for token in set(shift.top.flatten().tolist())}
        return shift.picture(label, self._pieces, vocabulary)


def traced_layers(checkpoint: Checkpoint) -> list[int]:
    """Return the layers with experts, packed or not."""
    family = family_of(checkpoint)
    return family.routed_layers(checkpoint.tensors) if checkpoint.packed else family.layers(checkpoint)
