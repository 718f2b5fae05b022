"""What a compression method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import torch

from .._core.errors import UsageError
from .._core.params import BITS, KEEP
from ..centers import Center, Statistics, needed
from ..experts import ExpertStack, LayerShape
from ..store.formats import FORMATS, smallest_format
from ..store.layout import DEFAULT_STORAGE, Layout, Storage, shape_blocks, weight_blocks
from ..store.matrices import CompressedMatrix
from ._layer import Compressed, CompressedLayer, Measured, stored_center
from ._ledgers import forecast_ledger, storage_ledger

if TYPE_CHECKING:
    from ._registry import MethodEntry


class Method(ABC):
    """One way to compress the experts of a layer: subclass it in a file of its own and register it.

    Parameters
    ----------
    entry
        Under which name, and whether it compresses experts or their residuals from a center.
    seed
        For whatever is random.

    Attributes
    ----------
    matrix_type
        The kind of compressed matrices that it makes.
    needs_statistics
        Whether it cannot do without calibration text.
    needs_moments
        Whether that text has to tell the full second moments of every expert's inputs and neurons.
    by_bits
        Whether it keeps every weight in fewer bits: its kept fraction is then that of 16 bits, 0.25 for 4.
    may_drop_center
        Whether it stores no center where that makes the layer better.
    variable_size
        Whether only doing it tells how many bytes it takes: no more than forecast, and few less.
    pools
        Whether it holds something as large as an expert for every one of them at once, beside the experts themselves.
    takes_group
        Whether it rounds weights in groups whose size users may choose.
    grows
        Whether a larger kept fraction takes more bytes: not where a format has one number of bits.
    scale_free
        Whether its relative error stays the same when all weights are multiplied by a number.
    """

    matrix_type: ClassVar[type[CompressedMatrix]]
    needs_statistics: ClassVar[bool] = False
    needs_moments: ClassVar[bool] = False
    by_bits: ClassVar[bool] = False
    may_drop_center: ClassVar[bool] = False
    variable_size: ClassVar[bool] = False
    pools: ClassVar[bool] = False
    takes_group: ClassVar[bool] = False
    grows: ClassVar[bool] = True
    scale_free: ClassVar[bool] = True

    def __init__(self, entry: MethodEntry, *, seed: int = 0) -> None:
        self.entry = entry
        self.seed = seed

    @property
    def name(self) -> str:
        """What users type."""
        return self.entry.name

    @property
    def uses_center(self) -> bool:
        """Whether it stores residuals from a center."""
        return self.entry.uses_center

    @classmethod
    def check_bits(cls, bits: float) -> None:
        """Refuse bits of a weight that a method which goes by bits does not have.

        Raises
        ------
        UsageError
            Saying which it has.
        """
        BITS.validate(bits)

    @classmethod
    def takes_bits(cls, bits: float) -> bool:
        """Whether a method that goes by bits can store so many a weight."""
        try:
            cls.check_bits(bits)
        except UsageError:
            return False
        return cls.by_bits

    @classmethod
    def bits_of(cls, keep: float) -> float:
        """Return the bits of a weight that a kept fraction means to a method that goes by bits.

        Raises
        ------
        UsageError
            If it leaves fewer than the method can store.
        """
        return 16 * keep

    def prepared_for(self, layout: Layout) -> Self:
        """Return the method with what it has to know of how its matrices will be stored: most need not."""
        return self

    @abstractmethod
    def counts(self, shape: LayerShape, keep: float) -> tuple[int, ...]:
        """Return the rank, rows or values of each compressed matrix, from the sizes of the layer alone.

        Raises
        ------
        UsageError
            If so little cannot be kept (not even rank 1).
        """

    @abstractmethod
    def compress_exact(
        self, stack: ExpertStack, keep: float, center: Center | None, statistics: Statistics | None
    ) -> Compressed:
        """Compress the experts of a layer, or their residuals from a center, to exact values."""

    def compress(
        self,
        stack: ExpertStack,
        keep: float,
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
        storage: Storage = DEFAULT_STORAGE,
    ) -> CompressedLayer:
        """Compress the experts of a layer and store them.

        Residuals are taken from the center as it is stored, so that rounding it costs nothing twice.

        Parameters
        ----------
        stack
            The experts.
        keep
            Kept fraction of the parameters per expert, in (0, 1].
        center
            The center; needed if, and used only if, the method stores residuals.
        statistics
            What calibration text tells about the layer, for the methods that use it.
        storage
            How values are stored.

        Raises
        ------
        UsageError
            If `keep` is out of range, the method needs a center or statistics and has none, or its matrices do not fit
            into the format.
        """
        KEEP.validate(keep)
        center = self._used(center, statistics)
        has_center = center is not None and center.stored
        layout = self.layout(stack.shape, keep, storage=storage, has_center=has_center)
        layout = layout.model_copy(update={"blocks": weight_blocks(stack.blocks)})
        center, center_blocks = stored_center(center, layout)
        compressed = self.prepared_for(layout).compress_exact(stack, keep, center, statistics)
        layout = layout.model_copy(update={"groups": compressed.groups})
        return CompressedLayer(
            method=self.name,
            keep=keep,
            shape=stack.shape,
            experts=FORMATS[layout.format].pack(compressed.matrices, layout),
            center=center if has_center else None,
            center_blocks=center_blocks,
            groups=compressed.groups,
            permutations=compressed.permutations,
            dtype=stack.weights.dtype,
        )

    def errors(
        self,
        stack: ExpertStack,
        keeps: Sequence[float],
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
        storage: Storage = DEFAULT_STORAGE,
    ) -> list[float]:
        """Return the approximation error (1/N) sum_k ||W_k[T_k] - restored_k||_F^2 of what is stored, at every keep."""
        layers = self.compress_each(stack, keeps, center, statistics=statistics, storage=storage)
        return [layer.approximation_error(stack) for layer in layers]

    def compress_each(
        self,
        stack: ExpertStack,
        keeps: Sequence[float],
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
        storage: Storage = DEFAULT_STORAGE,
    ) -> Iterator[CompressedLayer]:
        """Compress the experts of a layer at every keep, each when it is asked for, as :meth:`compress` does."""
        for keep in keeps:
            yield self.compress(stack, keep, center, statistics=statistics, storage=storage)

    def measure(
        self,
        stack: ExpertStack,
        keeps: Sequence[float],
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
        storage: Storage = DEFAULT_STORAGE,
    ) -> list[Measured]:
        """Return error and bytes of what is stored, at every keep."""
        if self.variable_size or (storage.format is not None and FORMATS[storage.format].variable_size):
            layers = self.compress_each(stack, keeps, center, statistics=statistics, storage=storage)
            return [Measured.of(layer.approximation_error(stack), storage_ledger(layer)) for layer in layers]
        errors = self.errors(stack, keeps, center, statistics=statistics, storage=storage)
        stored = self.uses_center and center is not None and center.stored
        ledgers = [forecast_ledger(self, stack.shape, keep=keep, center=stored, storage=storage) for keep in keeps]
        return [Measured.of(error, ledger) for error, ledger in zip(errors, ledgers, strict=True)]

    def layout(
        self, shape: LayerShape, keep: float, *, storage: Storage = DEFAULT_STORAGE, has_center: bool | None = None
    ) -> Layout:
        """Tell how such a layer will be stored.

        Parameters
        ----------
        shape, keep
            Sizes of the layer, and the kept fraction.
        storage
            How values are to be stored.
        has_center
            Whether a center is stored; by default, whether the method uses one (center ``"none"`` stores none).

        Raises
        ------
        UsageError
            If so little cannot be kept, or the method's matrices do not fit into the format.
        """
        if storage.group is not None and not self.takes_group:
            raise UsageError(
                f"method {self.name!r} rounds no weights in groups, found group {storage.group}: leave it out"
            )
        has_center = self.uses_center if has_center is None else has_center
        counts = self.counts(shape, KEEP.validate(keep))
        layout = Layout.model_construct(
            format="",
            encoding=storage.encoding,
            center=storage.center_encoding if has_center else None,
            blocks=shape_blocks(shape),
            neurons=shape.intermediate_size,
            counts=counts,
            groups=None,
        )
        try:
            format_class = smallest_format(self.matrix_type, layout, name=storage.format)
        except UsageError as error:
            raise UsageError(f"method {self.name!r} {error}") from error
        return format_class.adapted(layout.model_copy(update={"format": format_class.name}), self.matrix_type)

    def _used(self, center: Center | None, statistics: Statistics | None) -> Center | None:
        """The center where the method uses one; refuse to go on without what it needs."""
        if self.needs_statistics:
            needed(statistics, f"method {self.name!r}")
        if not self.uses_center:
            return None
        if center is None:
            raise UsageError(f"method {self.name!r} needs a center: find one first, for example 'wasserstein'")
        return center

    def _residuals(self, stack: ExpertStack, center: Center | None) -> Iterator[torch.Tensor]:
        """Yield what the method compresses: experts, or their residuals, one at a time."""
        return iter(stack.weights) if center is None else center.residuals(stack)
