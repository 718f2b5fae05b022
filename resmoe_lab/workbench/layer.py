"""One layer on the bench: its experts, their center, and one expert's matrices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .._core.progress import Progress, Tick, silent
from ..centers import DEFAULT_CENTER, Center, find_center
from ..checkpoint import Checkpoint
from ..experts import ExpertStack, load_stack
from ..methods import METHODS, MatrixMethod
from .cache import BENCHES, Kept, stamp


@dataclass(frozen=True, eq=False)
class LayerBench:
    """The experts of a layer and their common expert, shared by all panels that look at it."""

    stack: ExpertStack
    center: Center

    @property
    def permutations(self) -> np.ndarray:
        """(N, p_I) int64 array."""
        return self.center.permutations.cpu().numpy()

    @property
    def blocks(self) -> dict[str, tuple[int, int]]:
        """Where each part of an expert starts and stops in the design matrix's columns."""
        return {block.name: (block.start, block.stop) for block in self.stack.blocks}

    def matrices(self, method: str, keep: float, expert: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what a method compresses of one expert (the expert or its residual), and what it restores."""
        return _matrices(self, method, keep, expert)


@lru_cache(maxsize=16)
def _matrices(bench: LayerBench, method: str, keep: float, expert: int) -> tuple[np.ndarray, np.ndarray]:
    chosen = METHODS[method]()
    if isinstance(chosen, MatrixMethod):
        matrix, restored = chosen.restore_one(bench.stack, keep, expert, center=bench.center)
        return matrix.cpu().numpy(), restored.cpu().numpy()
    layer = chosen.compress(bench.stack, keep, bench.center)
    weights = bench.stack.weights[expert]
    original = weights if layer.orders is None else weights[layer.orders[expert].to(weights.device)]
    return original.cpu().numpy(), layer.restore()[expert].cpu().numpy()


def open_layer(
    checkpoint: Checkpoint,
    layer: int,
    *,
    center: str = DEFAULT_CENTER,
    solver: str | None = None,
    progress: Progress = silent,
) -> Kept[LayerBench]:
    """Load a layer and find its center, unless a panel has done so before.

    Parameters
    ----------
    checkpoint, layer
        Which experts.
    center, solver
        How their common expert is found.
    progress
        Told before each step; raising from it stops the work.

    Raises
    ------
    CheckpointError
        If the files have vanished or cannot be read.
    """

    def make(progress: Progress) -> LayerBench:
        progress(Tick(f"reading layer {layer}", 0, 2))
        stack = load_stack(checkpoint, layer=layer)
        progress(Tick(f"finding the common expert of layer {layer}", 1, 2))
        options: dict[str, Any] = {} if solver is None else {"solver": solver}
        return LayerBench(stack, find_center(stack, center=center, progress=progress, **options))

    return BENCHES.get((stamp(checkpoint), layer, center, solver), make, progress)
