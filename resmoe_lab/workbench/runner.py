"""The runner of variants that shares the workbench's caches."""

from __future__ import annotations

from typing import Any

from .._core.progress import Tick
from ..centers import Center
from ..experiments.runner import VariantRunner
from ..experts import ExpertStack
from .layer import LoadedLayer, open_layer
from .model import running_model


class WorkbenchRunner(VariantRunner):
    """Takes the model, layers and centers from the workbench's caches."""

    def _load_model(self) -> tuple[Any, Any]:
        return self._resources.enter_context(running_model(self.checkpoint, self._progress))

    def _loaded_layer(self, layer: int) -> LoadedLayer:
        return open_layer(self.checkpoint, layer, center=self.center_name, progress=self._progress).value

    def stack(self, layer: int) -> ExpertStack:
        """Return the experts of a layer."""
        stack = self._loaded_layer(layer).stack
        self._progress(Tick(f"compressing layer {layer}", 0))
        return stack

    def _find_center(self, layer: int) -> Center:
        return self._loaded_layer(layer).center
