"""The one place where the experts of a variant are put into a running model, which is then scored or measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from .._core.files import temporary_folder
from ..checkpoint import Checkpoint
from ..runtime import restored_experts
from ..scoring.activation_cache import cached_activations
from ..scoring.likelihood import Request
from ..scoring.routing import routing_shares
from ..scoring.score_cache import ScoreCache, hash_rows, model_key
from ..scoring.scorer import TaskResult, TaskScorer
from ..scoring.tasks import find_task
from ._forms import EqualBy as EqualBy
from ._forms import VariantForms
from .variants import ORIGINAL, Variant


class VariantRunner(VariantForms):
    """Runs the variants of a checkpoint, one after the other, in one model; parameters are those of its base class.

    Use it in a ``with`` block: the activations below the lowest compressed layer are cached until its end.
    """

    @contextmanager
    def running(
        self, variant: Variant, *, skips_layers: bool = True, then: Callable[[Any], None] | None = None
    ) -> Iterator[tuple[Any, Any]]:
        """Give model and tokenizer with a variant's experts in place; afterwards the model has its own again.

        Parameters
        ----------
        variant
            A variant of this runner.
        skips_layers
            Compute the activations below the compressed layers once for all variants, and skip those layers then.
        then
            Called with the model at the end of the block, when no layer is skipped any more.
        """
        model, tokenizer = self.loaded
        layers = [] if variant.method == ORIGINAL else self.layers
        stacks = (self.restored(variant, layer) for layer in layers)
        first, folder = min(self.layers) if skips_layers else 0, self._activation_folder
        with restored_experts(model, self.checkpoint, stacks, reload=True):
            with cached_activations(model, first=first, folder=folder):
                yield model, tokenizer
            if then is not None:
                then(model)

    @contextmanager
    def activation_folder(self, layer: int) -> Iterator[Path]:
        """Give a folder for the activations that enter a layer, and remove it afterwards."""
        with temporary_folder(f"resmoe-activations-{layer}-") as folder:
            yield folder

    @cached_property
    def _activation_folder(self) -> Path:
        return self._resources.enter_context(temporary_folder("resmoe-activations-"))

    def score(
        self, variant: Variant, scorer: TaskScorer, *, then: Callable[[Any], None] | None = None
    ) -> dict[str, TaskResult]:
        """Return a variant's results by task; the model runs only for tasks that are not in the scorer's cache.

        `then` is called with the model if it ran, before its own experts are put back.
        """
        return scorer.score(self.cache_key(variant), lambda: self.running(variant, then=then))

    def cache_key(self, variant: Variant) -> dict[str, Any]:
        """Return what decides a variant's weights."""
        key = original_key(self.checkpoint)
        if variant.method == ORIGINAL:
            return key
        key |= {"variant": asdict(variant), "layers": self.layers, "seed": self.seed}
        key["storage"] = self.storage.model_dump(mode="json")
        if self._usage is not None:
            key["usage"] = self._usage.source
        if self._calibration is not None:
            rows = find_task(self._calibration).rows(data_dir=self._data_dir)
            key["calibration"] = {"task": self._calibration, "rows": hash_rows(rows), "tokens": self._tokens}
        return key

    def routing_shares(self, requests: Sequence[Request]) -> pd.DataFrame:
        """Return the share of some requests' tokens that each expert of each layer receives in the original model.

        It does not change with what is compared, so it is computed once and comes from the cache of scores then.
        """
        layers, top_k = self.family.layers(self.checkpoint), self.family.shape(self.checkpoint.config).top_k
        key = original_key(self.checkpoint) | {"routing": hash_rows([astuple(request) for request in requests])}
        return ScoreCache().table(key, lambda: routing_shares(self.loaded[0], requests, layers=layers, top_k=top_k))


def original_key(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what decides an uncompressed model's weights."""
    return {"model": model_key(checkpoint), "variant": ORIGINAL}
