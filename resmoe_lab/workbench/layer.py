"""A loaded layer: its experts, their center, and one expert's matrices."""

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
from .cache import LAYERS, CachedResult, checkpoint_fingerprint


@dataclass(frozen=True, eq=False)
class LoadedLayer:
    """The experts of a layer and their center, shared by all panels."""

    stack: ExpertStack
    center: Center

    @property
    def permutations(self) -> np.ndarray:
        """(N, p_I) int64 array."""
        return self.center.permutations.cpu().numpy()

    @property
    def blocks(self) -> dict[str, tuple[int, int]]:
        """Name -> start and stop of each column block of the design matrix."""
        return {block.name: (block.start, block.stop) for block in self.stack.blocks}

    def matrices(self, method: str, keep: float, expert: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the (p_I, D) matrix that a method compresses (an expert or its residual), and what it restores."""
        return _matrices(self, method, keep, expert)


@lru_cache(maxsize=16)
def _matrices(loaded: LoadedLayer, method: str, keep: float, expert: int) -> tuple[np.ndarray, np.ndarray]:
    compressor = METHODS[method]()
    if isinstance(compressor, MatrixMethod):
        matrix, restored = compressor.restore_one(loaded.stack, keep, expert, center=loaded.center)
        return matrix.cpu().numpy(), restored.cpu().numpy()
    layer = compressor.compress(loaded.stack, keep, loaded.center)
    weights = loaded.stack.weights[expert]
    original = weights if layer.orders is None else weights[layer.orders[expert].to(weights.device)]
    return original.cpu().numpy(), layer.restore()[expert].cpu().numpy()


def open_layer(
    checkpoint: Checkpoint,
    layer: int,
    *,
    center: str = DEFAULT_CENTER,
    solver: str | None = None,
    progress: Progress = silent,
) -> CachedResult[LoadedLayer]:
    """Load a layer and find its center, or return the cached one.

    Parameters
    ----------
    checkpoint, layer
        The experts.
    center, solver
        Names of the center and of the solver that finds it.
    progress
        Called before each step; raising from it cancels.

    Raises
    ------
    CheckpointError
        If the files have been deleted or cannot be read.
    """

    def compute(progress: Progress) -> LoadedLayer:
        progress(Tick(f"reading layer {layer}", 0, 2))
        stack = load_stack(checkpoint, layer=layer)
        progress(Tick(f"finding the center of layer {layer}", 1, 2))
        options: dict[str, Any] = {} if solver is None else {"solver": solver}
        return LoadedLayer(stack, find_center(stack, center=center, progress=progress, **options))

    return LAYERS.get((checkpoint_fingerprint(checkpoint), layer, center, solver), compute, progress)
