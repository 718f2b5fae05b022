"""One layer on the bench: its experts, their center, every method's error, and one expert's matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
import pandas as pd

from .._core.errors import UsageError
from .._core.params import KEEP
from .._core.progress import Progress, Tick, silent
from ..centers import CommonExpert, find_center
from ..checkpoint import Checkpoint
from ..evaluate.approximation import error_curves
from ..experts import ExpertStack, load_stack
from ..methods import METHODS, MatrixMethod


@dataclass(frozen=True, eq=False)
class LayerBench:
    """What a panel shows of one layer; it knows no widgets.

    Parameters
    ----------
    stack, common
        The experts and their common expert.
    errors
        Error of every method at every value that the kept-fraction slider can take.
    """

    stack: ExpertStack
    common: CommonExpert
    errors: pd.DataFrame

    @property
    def permutations(self) -> np.ndarray:
        """(N, p_I) int64 array."""
        return self.common.permutations.cpu().numpy()

    @property
    def blocks(self) -> dict[str, tuple[int, int]]:
        """Where each part of an expert starts and stops in the design matrix's columns."""
        return {block.name: (block.start, block.stop) for block in self.stack.blocks}

    def matrices(self, method: str, keep: float, expert: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what a method compresses of one expert (the expert or its residual), and what it restores."""
        return _matrices(self, method, keep, expert)

    def relative_error(self, method: str, keep: float) -> float:
        """Return the relative error of one method at the nearest computed kept fraction."""
        rows = self.errors[self.errors["method"] == method]
        return float(rows["relative_error"].iloc[(rows["keep"] - keep).abs().argmin()])


@lru_cache(maxsize=64)
def _matrices(bench: LayerBench, method: str, keep: float, expert: int) -> tuple[np.ndarray, np.ndarray]:
    chosen = METHODS[method]()
    if isinstance(chosen, MatrixMethod):
        hints = chosen.hints(bench.stack, bench.common, None)
        pairs = zip(chosen.matrices(bench.stack, bench.common), hints, strict=False)
        matrix, hint = next(islice(pairs, expert, None))
        return matrix.cpu().numpy(), chosen.compress_matrix(matrix, keep, hint).restore().cpu().numpy()
    layer = chosen.compress(bench.stack, keep, bench.common)
    weights = bench.stack.weights[expert]
    original = weights if layer.orders is None else weights[layer.orders[expert].to(weights.device)]
    return original.cpu().numpy(), layer.restore()[expert].cpu().numpy()


def open_layer(
    checkpoint: Checkpoint, layer: int, *, methods: Sequence[str], center: str, progress: Progress = silent
) -> LayerBench:
    """Load a layer, find its center and compute every method's errors.

    Parameters
    ----------
    checkpoint, layer
        Which experts.
    methods, center
        What is compared.
    progress
        Told before each step; raising from it stops the work.
    """
    progress(Tick(f"reading layer {layer}", 0, len(methods) + 2))
    stack = load_stack(checkpoint, layer=layer)
    progress(Tick("finding the common expert", 1, len(methods) + 2))
    common = find_center(stack, center=center, progress=progress)
    tables = []
    for done, method in enumerate(methods, start=2):
        progress(Tick(f"errors of {method}", done, len(methods) + 2))
        tables.append(_errors(stack, method, common))
    progress(Tick("ready", len(methods) + 2, len(methods) + 2))
    return LayerBench(stack, common, pd.concat(tables, ignore_index=True))


def _errors(stack: ExpertStack, method: str, common: CommonExpert) -> pd.DataFrame:
    """The errors at every kept fraction that the method can have: few ranks fit into a very small matrix."""
    keeps = KEEP.grid()
    while True:
        try:
            return error_curves(stack, methods=[method], keeps=keeps, common=common)
        except UsageError:
            if len(keeps) == 1:
                raise
            keeps = keeps[1:]
