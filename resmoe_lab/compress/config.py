"""The settings of a run as one validated object: made once, passed whole, and written into the manifest as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from .._core.errors import UsageError
from .._core.params import KEEP, check_seed, keep_of_bits
from .._core.settings import Settings
from ..centers import CENTERS, DEFAULT_CENTER, NO_CENTER, CenterMethod, center_method, lacking
from ..methods import METHODS, Method
from ..runtime.rest import Rest
from ..store.layout import DEFAULT_STORAGE, Storage
from .compressed_tensors import CompressedType

Export = Literal["packed", "dense", "gguf", "compressed-tensors"]
#: GGUF's types, in small letters.
GgufType = Literal["f16", "q8_0", "q4_0", "mxfp4"]


class Calibration(Settings):
    """The text that tells how experts are used.

    Parameters
    ----------
    source
        Name of the task whose running text it is.
    tokens
        How many tokens of it are read.

    Raises
    ------
    UsageError
        If there are none.
    """

    source: str
    tokens: PositiveInt = 4096


class CompressionConfig(Settings):
    """How layers are compressed and stored: everything that decides the result, and nothing else.

    Parameters
    ----------
    method
        A name in the registry of methods.
    keep
        Kept fraction of the parameters per expert, in (0, 1]; of methods that go by bits, bits of a weight over 16. It
        may be given as ``bits`` for those.
    layer_keeps
        Kept fractions of single layers, by their number, where they are not `keep`.
    layers
        Numbers of the layers, or words for them: ``all``, ``top:24``, ``8-31``, ``0,2,4``.
    center
        A name in the registry of centers; without meaning, and set to ``"none"``, for a method that uses none.
    center_options
        Options of the center, such as ``{"solver": "alternating"}``.
    storage
        How values are stored, and in which format.
    export
        ``"packed"``, small on disk and in memory, ``"dense"``, the restored weights in the original's layout,
        ``"gguf"``, these as a file for llama.cpp, or ``"compressed-tensors"``, these rounded as that package has it.
    gguf_type
        What the compressed layers' experts are stored in by a GGUF export; everything else is in 16 or 32 bits.
    compressed_type
        What the compressed layers' experts are rounded to by a compressed-tensors export: ``"int4"`` in groups, or
        ``"fp8"`` with a scale for each row.
    rest
        What becomes of linear layers and embeddings that are not experts: ``"16"`` leaves them as they are, ``"int8"``
        and ``"int4"`` round them in groups of 64 (packed exports only).
    calibration
        What text the statistics are of, for the methods and centers that use them.
    usage
        Name and hash of the routing trace that tells how often experts are used, where it is not that text.
    seed
        For whatever is random.

    Raises
    ------
    UsageError
        If a setting is not allowed, or two do not go together.

    Examples
    --------
    >>> config = CompressionConfig(method="resmoe-svd", keep=0.25, storage={"encoding": "int8"})
    >>> config.storage.center_encoding.name
    'bf16'
    >>> CompressionConfig(method="up").center
    'none'
    >>> CompressionConfig(method="resmoe-coded", bits=4).keep
    0.25
    >>> CompressionConfig(keep=0)
    Traceback (most recent call last):
    ...
    resmoe_lab._core.errors.UsageError: keep is 0, expected a number in (0, 1]: kept fraction of the parameters per \
expert (the paper's '75 % compression' is 0.25)
    """

    method: str = "resmoe-up"
    keep: float = KEEP.default
    layer_keeps: dict[int, float] = Field(default_factory=dict)
    layers: str | tuple[int, ...] = "all"
    center: str = DEFAULT_CENTER
    center_options: dict[str, Any] = Field(default_factory=dict)
    storage: Storage = DEFAULT_STORAGE
    export: Export = "packed"
    gguf_type: GgufType = "f16"
    compressed_type: CompressedType = "int4"
    rest: Rest = "16"
    calibration: Calibration | None = None
    usage: str | None = None
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _kept_fraction_of_bits(cls, settings: Any) -> Any:
        """Take ``bits`` for the kept fraction of a method that goes by them."""
        if not isinstance(settings, dict) or settings.get("bits") is None:
            return settings
        settings = dict(settings)
        bits, method = settings.pop("bits"), settings.get("method", cls.model_fields["method"].default)
        if "keep" in settings:
            raise UsageError(f"bits {bits} and keep {settings['keep']}, expected one of them")
        if not METHODS[method].method.by_bits:
            known = ", ".join(name for name in METHODS if METHODS[name].method.by_bits)
            raise UsageError(f"method {method!r} goes by keep, expected bits for one of {known}: give keep")
        keep = keep_of_bits(bits)
        METHODS[method].method.check_bits(bits)
        return {**settings, "keep": keep}

    @model_validator(mode="before")
    @classmethod
    def _no_center_where_none_is_used(cls, settings: Any) -> Any:
        """Drop the center of a method that uses none, so that runs that do the same have the same settings."""
        if isinstance(settings, dict):
            method = settings.get("method", cls.model_fields["method"].default)
            if isinstance(method, str) and not METHODS[method].uses_center:
                return {**settings, "center": NO_CENTER, "center_options": {}}
        return settings

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for keep in (self.keep, *self.layer_keeps.values()):
            KEEP.validate(keep)
        check_seed(self.seed)
        self.make_center()
        if self.export != "packed" and self.rest != "16":
            raise UsageError(f"rest {self.rest!r} belongs to a packed export, found export {self.export!r}")
        if self.export != "packed" and self.storage.format is not None:
            raise UsageError(f"format {self.storage.format!r} belongs to a packed export, found export {self.export!r}")
        if self.export != "gguf" and self.gguf_type != "f16":
            raise UsageError(f"GGUF type {self.gguf_type!r} belongs to a GGUF export, found export {self.export!r}")
        if self.export != "compressed-tensors" and self.compressed_type != "int4":
            raise UsageError(
                f"compressed type {self.compressed_type!r} belongs to a compressed-tensors export, found export "
                f"{self.export!r}"
            )
        return self

    def keep_of(self, layer: int) -> float:
        """Return the kept fraction of a layer."""
        return self.layer_keeps.get(layer, self.keep)

    def make_method(self) -> Method:
        """Return the method."""
        return METHODS[self.method](seed=self.seed)

    def make_center(self) -> CenterMethod:
        """Return the way to find the center."""
        return center_method(self.center, seed=self.seed, options=self.center_options)

    def with_layers(self, layers: Sequence[int]) -> CompressionConfig:
        """Return the settings for layers of these numbers."""
        return self.model_copy(update={"layers": tuple(layers)})

    @property
    def layer_numbers(self) -> tuple[int, ...]:
        """The numbers of the layers, once words for them have been resolved."""
        assert not isinstance(self.layers, str), "resolve_layers comes first"
        return self.layers

    @property
    def has_center(self) -> bool:
        """Whether a center is stored."""
        return METHODS[self.method].uses_center and CENTERS[self.center].stored

    @property
    def needs_statistics(self) -> bool:
        """Whether it cannot be done without calibration text."""
        return METHODS[self.method].needs_statistics or CENTERS[self.center].needs_statistics

    @property
    def needs_fisher(self) -> bool:
        """Whether it also takes the Fisher information of that text."""
        return CENTERS[self.center].needs_fisher

    @property
    def needs_moments(self) -> bool:
        """Whether it also takes the full second moments of every expert's inputs and neurons."""
        return METHODS[self.method].method.needs_moments

    def check_calibrated(self, available: bool, *, only_usage: bool = False) -> None:
        """Refuse a run that cannot do without calibration text and has none.

        Parameters
        ----------
        available
            Whether there are statistics.
        only_usage
            Whether they are those of a routing trace, which tells nothing but the usage.

        Raises
        ------
        UsageError
            Naming what needs it.
        """
        method, center = METHODS[self.method], CENTERS[self.center]
        if method.needs_statistics and (only_usage or not available):
            raise lacking(f"method {self.method!r}")
        enough = available and (center.needs_only_usage or not only_usage)
        if center.needs_statistics and not enough:
            raise lacking(f"center {self.center!r}", only_usage=center.needs_only_usage)
