"""A loaded layer: its experts, their center, and one expert's matrices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .._core.progress import Progress, Tick, silent
from ..centers import DEFAULT_CENTER, Center, find_center
from ..checkpoint import Checkpoint
from ..experts import ExpertStack, load_stack
from ..methods import METHODS, CompressedLayer, MatrixMethod
from .cache import LAYERS, CachedResult, checkpoint_fingerprint


class Restored(NamedTuple):
    """The (p_I, D) matrix that a method compresses, what it restores, and whether that is a residual."""

    before: np.ndarray
    after: np.ndarray
    residual: bool


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

    def matrices(self, method: str, keep: float, expert: int) -> Restored:
        """Return the (p_I, D) matrix that a method compresses (an expert or its residual), and what it restores."""
        return _matrices(self, method, keep, expert)


@lru_cache(maxsize=16)
def _matrices(loaded: LoadedLayer, method: str, keep: float, expert: int) -> Restored:
    compressor = METHODS[method]()
    if isinstance(compressor, MatrixMethod):
        matrix, restored = compressor.restore_one(loaded.stack, keep, expert, center=loaded.center)
        return Restored(matrix.cpu().numpy(), restored.cpu().numpy(), compressor.uses_center)
    layer = _compressed(loaded, method, keep)
    original, restored = loaded.stack.weights[expert], layer.restore_expert(expert)
    if layer.orders is not None:
        original = original[layer.orders[expert].to(original.device)]
    if layer.center is not None:
        center = layer.center.expert(expert).to(original.device)
        original, restored = original - center, restored - center
    return Restored(original.cpu().numpy(), restored.cpu().numpy(), layer.center is not None)


@lru_cache(maxsize=2)
def _compressed(loaded: LoadedLayer, method: str, keep: float) -> CompressedLayer:
    """A layer of a method that does not compress one expert by itself."""
    return METHODS[method]().compress(loaded.stack, keep, loaded.center)


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
