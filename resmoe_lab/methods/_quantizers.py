"""Methods that keep every weight, rounded to a few bits in groups that share a scale and a zero."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any, ClassVar, Self

import torch

from .._core.errors import UsageError
from ..centers import Center, Statistics
from ..experts import ExpertStack, LayerShape
from ..store.encodings.affine import BITS, GROUP, affine_encoding
from ..store.groups import affine_range, join_groups, split_groups, to_codes
from ..store.layout import DEFAULT_STORAGE, Layout, Storage
from ..store.matrices import CompressedMatrix
from ..store.quantized_matrices import QuantizedBlock, QuantizedMatrix
from ._kinds import MatrixMethod
from ._registry import MethodEntry


class QuantizingMethod(MatrixMethod):
    """Rounds each weight matrix by itself, in groups along its inputs.

    The kept fraction is bits of a weight over 16, rounded down to whole bits; more than eight are never stored. Scales
    and zeros are stored in the float that values are to be stored in, in bfloat16 beside integers.
    """

    matrix_type: ClassVar[type[CompressedMatrix]] = QuantizedMatrix
    by_bits = True
    takes_group = True
    scale_free = False  # scales and zeros are rounded to sixteen bits, which shows where weights are few

    def __init__(self, entry: MethodEntry, *, seed: int = 0) -> None:
        super().__init__(entry, seed=seed)
        self.group = GROUP

    @classmethod
    def check_bits(cls, bits: float) -> None:
        """Only whole bits are stored."""
        if bits not in BITS:
            raise UsageError(f"bits is {bits:g}, expected a whole number from {BITS[0]} to {BITS[-1]}")

    @classmethod
    def bits_of(cls, keep: float) -> float:
        """Whole bits, rounded down."""
        return whole_bits(keep)

    @abstractmethod
    def round_matrix(self, weights: torch.Tensor, bits: int, moments: torch.Tensor | None) -> QuantizedBlock:
        """Round an (outputs, inputs) weight matrix.

        Parameters
        ----------
        weights
            Its values.
        bits
            Of a code.
        moments
            (inputs, inputs) second moments of what it is multiplied with, where the method asked for them.
        """

    def count(self, shape: LayerShape, keep: float) -> int:
        """Return the bits of a code."""
        return whole_bits(keep)

    def prepared_for(self, layout: Layout) -> Self:
        """Take the group."""
        method = copy(self)
        method.group = layout.encoding.group or GROUP
        return method

    def layout(
        self, shape: LayerShape, keep: float, *, storage: Storage = DEFAULT_STORAGE, has_center: bool | None = None
    ) -> Layout:
        """Store codes in groups, whatever values would be stored as; scales are floats of theirs."""
        bits = self.count(shape, keep)
        encoding = affine_encoding(bits, group=storage.group or GROUP, scale=storage.encoding.beside.kind)
        storage = storage.model_copy(update={"encoding": encoding, "center": storage.center_encoding})
        return super().layout(shape, keep, storage=storage, has_center=has_center)

    def compress_matrix(self, matrix: torch.Tensor, keep: float, hint: Any = None) -> CompressedMatrix:
        """Round each weight matrix; `hint` has their widths, and the second moments of their inputs where needed."""
        widths, moments = hint
        *entering, leaving = matrix.split(list(widths), dim=1)
        matrices = [*entering, leaving.T.contiguous()]
        bits = whole_bits(keep)
        parts = [self.round_matrix(part, bits, seen) for part, seen in zip(matrices, moments, strict=True)]
        return QuantizedMatrix(tuple(parts), bits)

    def stored_errors(
        self, matrix: torch.Tensor, keeps: Sequence[float], layout: Layout, hint: Any = None
    ) -> list[float]:
        """Round once for each number of bits, however many kept fractions lead to it."""
        bits = [whole_bits(keep) for keep in keeps]
        first = dict(zip(reversed(bits), reversed(keeps), strict=True))
        errors = dict(zip(first, super().stored_errors(matrix, list(first.values()), layout, hint), strict=True))
        return [errors[each] for each in bits]

    def hints(self, stack: ExpertStack, center: Center | None, statistics: Statistics | None) -> Iterator[Any]:
        """Yield the columns of each weight matrix, and no moments; refuse weights that are not finite."""
        widths = stack.checked().shape.widths
        nothing: Sequence[torch.Tensor | None] = (None,) * len(widths)
        return iter([(widths, nothing)] * stack.num_experts)


def whole_bits(keep: float) -> int:
    """Return the bits of a code that a kept fraction of 16 bits leaves, at most eight.

    Raises
    ------
    UsageError
        If there are fewer than two.

    Examples
    --------
    >>> whole_bits(0.25)
    4
    """
    # The small term keeps bits that are whole in exact arithmetic from falling below themselves.
    bits = min(BITS[-1], math.floor(16 * keep + 1e-9))
    if bits < BITS[0]:
        least = BITS[0] / 16
        raise UsageError(
            f"keep {keep:g} leaves {16 * keep:.3g} bits a weight, expected at least 2 bits: keep {least:g}"
        )
    return bits


def round_to_nearest(weights: torch.Tensor, bits: int, group: int) -> QuantizedBlock:
    """Round an (outputs, inputs) matrix to `bits`, each `group` of a row between its own minimum and maximum.

    Examples
    --------
    >>> round_to_nearest(torch.tensor([[-1.0, 0.0, 0.9, 2.0]]), 2, 4).restore()
    tensor([[-1.,  0.,  1.,  2.]])
    """
    groups = split_groups(weights, group)
    scale, zero = affine_range(groups, bits)
    codes = to_codes(groups, scale, zero, bits=bits)
    return QuantizedBlock(join_groups(codes, weights.shape[1]), scale, zero, group)
