"""Routing shift as a line of a score table: how many tokens of a text a compressed form sends to other experts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pandas as pd

from .._core.errors import CheckpointError, ResmoeWarning, UsageError
from .._core.machine import available_bytes
from .._core.units import human_bytes
from ..checkpoint import Checkpoint
from ..runtime import load_pair
from ..scoring.score_cache import hash_rows, model_key
from ..scoring.scorer import TaskScorer
from ..store.manifest import MANIFEST_FILE
from .originals import original_of
from .record_pictures import TEXT_TOKENS, TaskText
from .runner import VariantRunner
from .traced_text import TracedText
from .variants import ORIGINAL, Variant


@dataclass(frozen=True, eq=False)
class RoutingShift:
    """How much of a text's routing a compressed form changes.

    Parameters
    ----------
    task
        Whose text it is.
    layers
        Columns ``layer, tokens, rerouted, moved, gate_kl``: see
        :func:`~resmoe_lab.experiments.token_shift.routing_shift`; empty if it was not measured.
    reason
        Why it was not measured; empty if it was.
    """

    task: str
    layers: pd.DataFrame
    reason: str = ""

    @property
    def rerouted(self) -> float:
        """Share of the tokens that take other experts, mean over the layers; NaN if not measured."""
        return float(self.layers["rerouted"].mean()) if len(self.layers) else math.nan

    @property
    def gate_kl(self) -> float:
        """KL of the gate's distribution in nats, mean over the layers; NaN if not measured."""
        return float(self.layers["gate_kl"].mean()) if len(self.layers) else math.nan


def _text(scorer: TaskScorer) -> TaskText:
    """The text of the scored tasks; the harness's own have none that we know."""
    return TaskText.of(scorer.tasks if scorer.protocol == "paper" else [], data_dir=scorer.data_dir)


class ShiftMeter:
    """Measures the routing shift of variants, each once: what was measured before comes from the scorer's cache.

    Parameters
    ----------
    runner
        Whose model has its own experts when the meter is first used.
    scorer
        What is scored beside.
    """

    def __init__(self, runner: VariantRunner, scorer: TaskScorer) -> None:
        self._runner, self._cache, self._text = runner, scorer.cache, _text(scorer)
        self._told = False

    @cached_property
    def _original(self) -> TracedText:
        model, tokenizer = self._runner.loaded
        return TracedText(model, tokenizer, self._text.text, checkpoint=self._runner.checkpoint, longest=TEXT_TOKENS)

    def _key(self, variant: Variant) -> dict[str, Any]:
        return self._runner.cache_key(variant) | {"routing shift": hash_rows(self._text.text)}

    def wanted(self, variant: Variant) -> Callable[[Any], None] | None:
        """Return what is to be called with a variant's running model; None if its shift is known, or none is wanted."""
        if variant.method == ORIGINAL or self._cache.known_table(self._key(variant)) is not None:
            return None
        try:
            # Before the variant's experts are in place.
            _ = self._original
        except (CheckpointError, UsageError) as error:
            if not self._told:
                warnings.warn(f"no routing shift beside these scores: {error}", ResmoeWarning, stacklevel=2)
            self._told = True
            return None
        return partial(self._measure, variant)

    def _measure(self, variant: Variant, model: Any) -> None:
        self._cache.table(self._key(variant), lambda: self._original.shift(model).routing_shift())

    def shift(self, variant: Variant) -> RoutingShift:
        """Return a variant's shift, which the model runs for if need be."""
        nothing = RoutingShift(self._text.task, pd.DataFrame())
        if variant.method == ORIGINAL:
            return nothing
        if (measure := self.wanted(variant)) is not None:
            with self._runner.running(variant, skips_layers=False) as (model, _):
                measure(model)
        table = self._cache.known_table(self._key(variant))
        return nothing if table is None else RoutingShift(self._text.task, table)


def checkpoint_shift(checkpoint: Checkpoint, scorer: TaskScorer, *, device: str = "cpu") -> RoutingShift | None:
    """Measure how far the routing of a compressed checkpoint is from that of its original.

    Parameters
    ----------
    checkpoint
        A checkpoint.
    scorer
        What is scored beside: the text is that of its tasks, and what was measured before is in its cache.
    device
        Where the models run, one after the other.

    Returns
    -------
    RoutingShift or None
        None for a checkpoint that is no output of ``resmoe-lab compress``. The reason is told where the original is not
        where the manifest says, or is too large for the memory, or the family does not tell its routing.
    """
    if not (checkpoint.folder / MANIFEST_FILE).is_file():
        return None
    text = _text(scorer)
    original = original_of(checkpoint)
    if original is None:
        return RoutingShift(text.task, pd.DataFrame(), "the original is not where the manifest says")
    key = {"model": model_key(checkpoint), "original": model_key(original), "routing shift": hash_rows(text.text)}
    try:
        table = scorer.cache.table(key, lambda: _measured(original, checkpoint, text, device=device))
    except (CheckpointError, UsageError) as error:
        return RoutingShift(text.task, pd.DataFrame(), str(error))
    return RoutingShift(text.task, table)


def _check_memory(original: Checkpoint) -> None:
    """Refuse to load an original that may only exist compressed on this machine."""
    needed = 4 * sum(math.prod(info.shape) for info in original.tensors.values())
    if needed > (free := available_bytes()):
        raise CheckpointError(f"the original takes {human_bytes(needed)} of memory, {human_bytes(free)} are free")


def _measured(original: Checkpoint, form: Checkpoint, text: TaskText, *, device: str) -> pd.DataFrame:
    """The shift by layer, with both models in memory."""
    _check_memory(original)
    read = TracedText(*load_pair(original, device=device), text.text, checkpoint=original, longest=TEXT_TOKENS)
    model, _ = load_pair(form, device=device)
    return read.shift(model).routing_shift()
