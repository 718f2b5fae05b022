"""The live panel: a slider for the kept fraction, and what it does to one layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets

from .. import plots
from .._core.errors import UsageError
from .._core.params import KEEP
from ..checkpoint import Checkpoint, open_checkpoint
from ..evaluate.similarity import expert_similarity
from ..experts import moe_layers
from ..plots.live import error_figure, permutation_figure, residual_figure
from .controls import choice, slider
from .job import Job, Latest
from .layer import LayerBench, open_layer
from .panels import PicturePanel, ProgressPanel

_METHODS = ("up", "svd", "resmoe-up", "resmoe-svd")
_RESIDUAL, _PERMUTATIONS = "before and after", "permutations"


class Explorer:
    """A panel that shows, for one layer at a time, what each method loses at the slider's kept fraction.

    Parameters
    ----------
    checkpoint
        A checkpoint, or anything that names one.
    methods
        The methods that are compared; the last but one is chosen first.
    center
        How common experts are found.
    layer
        The layer to begin with; the first that has experts by default.

    Examples
    --------
    >>> Explorer("mixtral-tiny")  # doctest: +SKIP
    """

    def __init__(
        self,
        checkpoint: Checkpoint | str | Path,
        *,
        methods: Sequence[str] = _METHODS,
        center: str = "wasserstein",
        layer: int | None = None,
    ) -> None:
        self.checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else open_checkpoint(checkpoint)
        self._methods, self._center = tuple(methods), center
        first = "resmoe-up" if "resmoe-up" in methods else self._methods[-1]
        self.layer = choice("layer", moe_layers(self.checkpoint), value=layer, doc="which MoE layer")
        self.method = choice("method", self._methods, value=first, doc="whose matrices are pictured")
        self.expert = choice("expert", [0], doc="which expert is pictured")
        self.picture = choice("picture", [_RESIDUAL, _PERMUTATIONS], doc="what the lower picture shows")
        self.keep = slider(KEEP)
        self._errors = PicturePanel()
        self._matrix = PicturePanel()
        self._progress = ProgressPanel(self.cancel)
        self._benches: dict[int, LayerBench] = {}
        self._latest = Latest(lambda error: self._progress.idle(str(error)))
        self._job: Job[LayerBench] | None = None
        self.widget = self._laid_out()
        self.layer.observe(self._open, names="value")
        for control in (self.keep, self.method, self.expert, self.picture):
            control.observe(self._redraw, names="value")
        self._open()

    def _laid_out(self) -> ipywidgets.VBox:
        wrap = ipywidgets.Layout(flex_flow="row wrap")
        choices = ipywidgets.HBox([self.layer, self.method, self.expert, self.picture], layout=wrap)
        pictures = ipywidgets.HBox([self._errors.widget, self._matrix.widget], layout=wrap)
        return ipywidgets.VBox([self.keep, choices, self._progress.widget, pictures])

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs)

    @property
    def bench(self) -> LayerBench | None:
        """The layer on the bench, once it is ready."""
        return self._benches.get(self.layer.value)

    def cancel(self) -> None:
        """Stop opening a layer; layers that were opened before stay."""
        if self._job is not None:
            self._job.cancel()

    def wait(self, timeout: float | None = None) -> Explorer:
        """Wait until the layer is open and the pictures are drawn; return the explorer itself.

        Raises
        ------
        Cancelled, ResmoeError
            If the layer could not be opened.
        TimeoutError
            If it takes more than `timeout` seconds.
        """
        if self._job is not None:
            self._job.result(timeout)
        self._redraw()
        self._latest.wait(timeout)
        return self

    def freeze(self) -> dict[str, Any]:
        """Return the open layer's charts, alive without a kernel, by name; waits until it is open."""
        bench = self.wait().bench
        assert bench is not None
        layer = bench.stack.layer
        return {
            "errors": plots.error_curves(bench.errors, layer=layer),
            "permutations": plots.permutation_map({layer: bench.permutations}),
            "similarity": plots.similarity_heatmap({layer: expert_similarity(bench.stack, bench.common)}),
        }

    def _open(self, _: Any = None) -> None:
        """Put the chosen layer on the bench, in a thread unless it was there before."""
        self.cancel()
        layer = int(self.layer.value)
        if layer in self._benches:
            self._redraw()
            return

        def work(progress: Any) -> LayerBench:
            bench = open_layer(self.checkpoint, layer, methods=self._methods, center=self._center, progress=progress)
            self._benches[layer] = bench
            return bench

        self._job = Job(work, progress=self._progress, done=self._opened)

    def _opened(self, job: Job[LayerBench]) -> None:
        if job is not self._job and self._job is not None and self._job.running:
            return
        if job.error is not None:
            self._progress.idle(f"{job.error} (choose a layer to begin again)")
            return
        self._redraw()

    def _redraw(self, _: Any = None) -> None:
        if self.bench is not None:
            self._latest.submit(self._draw)

    def _draw(self) -> None:
        bench = self.bench
        if bench is None:
            return
        experts = list(range(bench.stack.num_experts))
        if list(self.expert.options) != experts:
            self.expert.options = experts
        keep, layer, method = float(self.keep.value), bench.stack.layer, str(self.method.value)
        self._errors.show(error_figure(bench.errors, keep=keep, layer=layer))
        text = f"Layer {layer}, {method} at keep {keep:g}: relative error {bench.relative_error(method, keep):.3f}"
        if self.picture.value == _PERMUTATIONS:
            self._matrix.show(permutation_figure(bench.permutations, layer=layer))
        else:
            try:
                self._matrix.show(self._matrix_figure(bench, method, keep))
            except UsageError as error:
                text = str(error)
        self._progress.idle(text)

    def _matrix_figure(self, bench: LayerBench, method: str, keep: float) -> Any:
        before, after = bench.matrices(method, keep, int(self.expert.value))
        what = "residual of expert" if method.startswith("resmoe") else "expert"
        title = f"{method}: {what} {self.expert.value}, layer {bench.stack.layer}"
        return residual_figure(before, after, blocks=bench.blocks, title=title)
