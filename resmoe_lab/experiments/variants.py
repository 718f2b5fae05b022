"""A checkpoint and compressed forms of it, run one after the other in one model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from .._core.errors import UsageError
from .._core.params import KEEP
from .._core.progress import Progress, silent
from ..analysis.equal_bytes import REFERENCE, keep_at_equal_bytes
from ..centers import CENTERS, DEFAULT_CENTER, Center, Statistics, find_center
from ..checkpoint import Checkpoint
from ..experts import ExpertStack, family_of
from ..methods import METHODS
from ..runtime import load_model, restored_experts
from ..scoring.activation_cache import lower_states_kept
from ..scoring.calibration import TOKENS, calibrate, calibration_requests
from ..store import forecast

ORIGINAL = "original"


@dataclass(frozen=True)
class Variant:
    """One form of the model: a method at a keep with a center, or the model as it is.

    Parameters
    ----------
    method, center, keep
        Of which ``"original"`` has no center and keeps everything.
    true_bytes, original_bytes
        What the compressed layers' experts weigh at 16 bit, and what they weighed.
    """

    method: str
    center: str
    keep: float
    true_bytes: int
    original_bytes: int


class Variants:
    """The forms that are compared; nothing is opened or computed before it is needed.

    Use it in a ``with`` block: what the layers below the compressed ones give is kept until its end.

    Parameters
    ----------
    checkpoint
        The model, not packed.
    methods
        What is compared with the original.
    keep
        The kept fraction; with `equal` ``"bytes"``, that of ``resmoe-up``, whose bytes all methods get.
    layers
        Numbers of the compressed layers; all with experts if not given.
    center, seed
        Of the residual methods, and for whatever is random.
    equal
        ``"keep"`` or ``"bytes"``.
    text, tokens
        Task whose running text calibrates methods and centers that want it, and how much of it.
    data_dir, device
        Where data is searched first, and where the model runs.
    progress
        Told of the search for centers.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        methods: Sequence[str],
        keep: float = KEEP.default,
        layers: Sequence[int] | None = None,
        center: str = DEFAULT_CENTER,
        equal: str = "keep",
        text: str | None = None,
        tokens: int = TOKENS,
        seed: int = 0,
        data_dir: str | Path | None = None,
        device: str = "cpu",
        progress: Progress = silent,
    ) -> None:
        KEEP.validate(keep)
        if equal not in ("keep", "bytes"):
            raise UsageError(f"equal is {equal!r}, expected keep or bytes")
        self._family = family_of(checkpoint)
        self.layers = list(layers) if layers is not None else self._family.layers(checkpoint)
        self._family.check_layers(checkpoint, self.layers)
        CENTERS[center]
        for name in methods:
            if METHODS[name].needs_statistics and text is None:
                raise UsageError(f"method {name!r} needs calibration text: name a task of running text")
        self.checkpoint, self._center, self._seed, self._progress = checkpoint, center, seed, progress
        self._text, self._tokens, self._data_dir, self._device = text, tokens, data_dir, device
        self.all = [self._original(), *(self._variant(name, keep, equal) for name in methods)]
        self._kept = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._kept.close()

    def facts(self, variant: Variant) -> dict[str, Any]:
        """What decides a variant's weights, beside the checkpoint."""
        if variant.method == ORIGINAL:
            return {"variant": ORIGINAL}
        facts: dict[str, Any] = {"variant": asdict(variant), "layers": self.layers, "seed": self._seed}
        return facts | {"text": self._text, "tokens": self._tokens if self._text else None}

    @cached_property
    def opened(self) -> tuple[Any, Any]:
        """The model in float32 and its tokenizer."""
        model, tokenizer = self._open()
        self._kept.enter_context(lower_states_kept(model, first=min(self.layers)))
        return model, tokenizer

    @contextmanager
    def running(self, variant: Variant) -> Iterator[tuple[Any, Any]]:
        """Give model and tokenizer with a variant's experts in place."""
        model, tokenizer = self.opened
        with restored_experts(model, self.checkpoint, self._restored(variant)):
            yield model, tokenizer

    def _restored(self, variant: Variant) -> Iterator[ExpertStack]:
        if variant.method == ORIGINAL:
            return
        method = METHODS[variant.method](seed=self._seed)
        for layer in self.layers:
            stack, statistics = self._stack(layer), self._statistics.get(layer)
            center = self._centers[layer] if method.uses_center else None
            compressed = method.compress(stack, variant.keep, center, statistics=statistics)
            yield stack.with_weights(compressed.restore())

    def _open(self) -> tuple[Any, Any]:
        return load_model(self.checkpoint, device=self._device)

    def _stack(self, layer: int) -> ExpertStack:
        return self._family.load(self.checkpoint, layer, device=self._device)

    def _find_center(self, layer: int) -> Center:
        options: dict[str, Any] = {"center": self._center, "seed": self._seed, "progress": self._progress}
        return find_center(self._stack(layer), statistics=self._statistics.get(layer), **options)

    @cached_property
    def _centers(self) -> dict[int, Center]:
        return {layer: self._find_center(layer) for layer in self.layers}

    @cached_property
    def _statistics(self) -> dict[int, Statistics]:
        if self._text is None:
            return {}
        model, tokenizer = self.opened
        read = calibration_requests(model, tokenizer, text=self._text, tokens=self._tokens, data_dir=self._data_dir)
        options: dict[str, Any] = {"source": self._text, "fisher": self._center == "wasserstein-fisher"}
        return calibrate(model, self._family, read, layers=self.layers, progress=self._progress, **options)

    def _original(self) -> Variant:
        whole = forecast(METHODS[REFERENCE](), self._family.layer_shape(), keep=1.0, center=False).original_bytes * len(
            self.layers
        )
        return Variant(ORIGINAL, "none", 1.0, whole, whole)

    def _variant(self, name: str, keep: float, equal: str) -> Variant:
        method = METHODS[name]()
        stored = self._center != "none"
        if equal == "bytes":
            keep = keep_at_equal_bytes(name, keep, self._family.layer_shape(), center=stored)
        ledger = forecast(method, self._family.layer_shape(), keep=keep, center=method.uses_center and stored)
        count = len(self.layers)
        center = self._center if method.uses_center else "none"
        return Variant(name, center, keep, ledger.true_bytes * count, ledger.original_bytes * count)
