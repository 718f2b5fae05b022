"""The variants of a checkpoint, and what they are made of: centers, statistics, compressed layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch

from .._core.device import check_device
from .._core.errors import UsageError
from .._core.params import KEEP
from .._core.progress import Progress, silent
from ..analysis.equal_bytes import keep_at_equal_bytes
from ..centers import CENTERS, DEFAULT_CENTER, NO_CENTER, Center, Statistics, center_method
from ..checkpoint import Checkpoint
from ..experts import ExpertStack, family_of
from ..methods import METHODS, CompressedLayer, Method, forecast_ledger, storage_ledger
from ..runtime import load_pair
from ..scoring.calibration import TOKENS, calibrate, calibration_requests, calibration_rows
from ..scoring.usage_trace import UsageTrace
from ..store.formats import FORMATS
from ..store.layout import DEFAULT_STORAGE, Storage
from ..store.ledger import Ledger
from .variants import CENTER_ONLY, ORIGINAL, Variant

EqualBy = Literal["keep", "bytes"]


class VariantForms:
    """Makes the variants of a checkpoint.

    Model, centers and calibration statistics are loaded or computed when they are first needed, and once. Use it in a
    ``with`` block.

    Parameters
    ----------
    checkpoint
        The model, not packed.
    layers
        Numbers of the compressed layers; all with experts if not given.
    center, seed
        Of the residual methods, and for whatever is random.
    storage
        How the variants' values are stored: scores are those of what is stored.
    calibration, tokens
        Task whose running text calibrates methods and centers that use it, and how many of its tokens.
    usage
        Routing trace that tells how often experts are used, in place of what that text tells.
    data_dir, device
        Searched first for data, and where the model runs.
    progress
        Called during calibration and the search for centers.

    Raises
    ------
    UsageError
        If a layer, the center or the device does not exist, or the calibration text is none.
    DataError
        If the calibration text is not found.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        layers: Sequence[int] | None = None,
        center: str = DEFAULT_CENTER,
        storage: Storage = DEFAULT_STORAGE,
        calibration: str | None = None,
        tokens: int = TOKENS,
        usage: UsageTrace | None = None,
        seed: int = 0,
        data_dir: str | Path | None = None,
        device: str = "cpu",
        progress: Progress = silent,
    ) -> None:
        self.checkpoint, self.family = checkpoint, family_of(checkpoint)
        self.layers = list(layers) if layers is not None else self.family.layers(checkpoint)
        self.family.check_layers(checkpoint, self.layers)
        if checkpoint.packed:
            raise UsageError(f"{checkpoint.name} is compressed already, expected an original: name the one it is of")
        check_device(device)
        self._center_method = center_method(center, seed=seed)
        has_usage = usage is not None and self._center_method.needs_only_usage
        if self._center_method.needs_statistics and calibration is None and not has_usage:
            raise UsageError(
                f"center {center!r} needs calibration text: name a task of running text (--calibration TASK)"
            )
        if calibration is not None:
            calibration_rows(calibration, tokens=tokens, data_dir=data_dir)
        self.center_name, self.storage, self.seed, self._progress = center, storage, seed, progress
        self._calibration, self._tokens, self._data_dir, self._device = calibration, tokens, data_dir, device
        self._usage = usage
        self._centers: dict[int, Center] = {}
        self._coded_ledgers: dict[tuple[str, float, int], Ledger] = {}
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._resources.close()

    # -- variants ------------------------------------------------------------------------------------------------

    @property
    def original(self) -> Variant:
        """The model as it is."""
        return Variant(ORIGINAL)

    @property
    def center_only(self) -> Variant:
        """Every expert replaced by its layer's center."""
        return Variant(CENTER_ONLY, self.center_name, 0.0)

    def variant(self, method: str, keep: float | Mapping[int, float] = KEEP.default) -> Variant:
        """Return the model compressed by a method.

        Raises
        ------
        UsageError
            If the method does not exist or needs calibration text, so little cannot be kept, or it cannot be stored as
            asked for.
        """
        instance = METHODS[method]()
        if instance.needs_statistics and self._calibration is None:
            raise UsageError(
                f"method {method!r} needs calibration text: name a task of running text (--calibration TASK)"
            )
        variant = Variant(method, self.center_name if instance.uses_center else NO_CENTER, keep)
        has_center, shape = CENTERS[variant.center].stored, self.family.layer_shape()
        for value in set(keep.values()) if isinstance(keep, Mapping) else (keep,):
            instance.layout(shape, value, storage=self.storage, has_center=has_center)
        return variant

    def variants(self, methods: Sequence[str], *, keep: float = KEEP.default, equal: EqualBy = "keep") -> list[Variant]:
        """Return the original and the model compressed by each method.

        Parameters
        ----------
        methods
            Names in the registry of methods.
        keep, equal
            The kept fraction of all methods; with `equal` ``"bytes"`` that of ``resmoe-up``, whose bytes all get.
        """
        if equal not in get_args(EqualBy):
            raise UsageError(f"equal is {equal!r}, expected keep or bytes")
        KEEP.validate(keep)
        shape = self.family.layer_shape()
        options: dict[str, Any] = {"center": self._center_method.stored, "storage": self.storage}
        keeps = {name: keep_at_equal_bytes(name, keep, shape, **options) for name in methods if equal == "bytes"}
        return [self.original, *(self.variant(name, keeps.get(name, keep)) for name in methods)]

    def stored_bytes(self, variant: Variant) -> tuple[int, int]:
        """Return the bytes of the compressed layers' experts, as stored by the variant and originally."""
        original = sum(self.family.expert_bytes(self.checkpoint, layer) for layer in self.layers)
        if variant.method == ORIGINAL:
            return original, original
        method = METHODS[variant.method]()
        if self._only_coding_tells(method):
            return sum(self._measured_ledger(variant, layer).true_bytes for layer in self.layers), original
        shape, has_center = self.family.layer_shape(), CENTERS[variant.center].stored
        ledgers = [
            forecast_ledger(method, shape, keep=variant.keep_of(layer), center=has_center, storage=self.storage)
            for layer in self.layers
        ]
        return sum(ledger.true_bytes for ledger in ledgers), original

    def _measured_ledger(self, variant: Variant, layer: int) -> Ledger:
        """The ledger of a layer as it was coded when the variant ran, or as it is coded now."""
        key = variant.method, variant.keep_of(layer), layer
        if key not in self._coded_ledgers:
            self.compressed(variant, layer)
        return self._coded_ledgers[key]

    def _only_coding_tells(self, method: Method) -> bool:
        name = self.storage.format
        return method.variable_size or (name is not None and FORMATS[name].variable_size)

    # -- what variants are made of -------------------------------------------------------------------------------

    @cached_property
    def loaded(self) -> tuple[Any, Any]:
        """The model in float32 with its own experts, and its tokenizer."""
        return self._load_model()

    @cached_property
    def statistics(self) -> dict[int, Statistics]:
        """Calibration statistics of each layer; empty without calibration text and routing trace."""
        return self._calibrated(moments=False)

    @cached_property
    def full_statistics(self) -> dict[int, Statistics]:
        """The same with the full second moments, for the methods that need them."""
        return self._calibrated(moments=True)

    def _calibrated(self, *, moments: bool) -> dict[int, Statistics]:
        measured = self._measured(moments=moments)
        return measured if self._usage is None else self._usage.statistics(self.layers, measured)

    def _measured(self, *, moments: bool) -> dict[int, Statistics]:
        if self._calibration is None:
            return {}
        model, tokenizer = self.loaded
        options: dict[str, Any] = {"text": self._calibration, "tokens": self._tokens, "data_dir": self._data_dir}
        requests = calibration_requests(model, tokenizer, **options)
        options = {"source": self._calibration, "fisher": self._center_method.needs_fisher, "moments": moments}
        return calibrate(model, self.family, requests, layers=self.layers, progress=self._progress, **options)

    def stack(self, layer: int) -> ExpertStack:
        """Load the experts of a layer; they are not kept in memory."""
        return self.family.load(self.checkpoint, layer, device=self._device)

    def center(self, layer: int) -> Center:
        """Return a layer's center."""
        if layer not in self._centers:
            self._centers[layer] = self._find_center(layer)
        return self._centers[layer]

    def restored(self, variant: Variant, layer: int) -> ExpertStack:
        """Return a layer's experts as the variant restores them."""
        stack = self.stack(layer)
        if variant.method == CENTER_ONLY:
            center = self.center(layer)
            if center.stored:
                center = center.rounded(center.encode(stack.blocks, self.storage.center_encoding))
            return stack.with_weights(torch.stack([center.expert(k) for k in range(stack.num_experts)]))
        return stack.with_weights(self.compressed(variant, layer, stack=stack).restore())

    def compressed(self, variant: Variant, layer: int, *, stack: ExpertStack | None = None) -> CompressedLayer:
        """Compress a layer's experts as a variant's method does."""
        stack = self.stack(layer) if stack is None else stack
        method = METHODS[variant.method](seed=self.seed)
        base = self.center(layer) if method.uses_center else None
        statistics = (self.full_statistics if method.needs_moments else self.statistics).get(layer)
        keep = variant.keep_of(layer)
        compressed = method.compress(stack, keep, base, statistics=statistics, storage=self.storage)
        if self._only_coding_tells(method):
            self._coded_ledgers[variant.method, keep, layer] = storage_ledger(compressed)
        return compressed

    def _load_model(self) -> tuple[Any, Any]:
        return load_pair(self.checkpoint, device=self._device)

    def _find_center(self, layer: int) -> Center:
        statistics = self.statistics.get(layer)
        return self._center_method.find(self.stack(layer), statistics=statistics, progress=self._progress)
