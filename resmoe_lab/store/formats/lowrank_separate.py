"""Low-rank experts with factors of each weight matrix by itself: the fastest to multiply."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Self

from torch import Tensor

from ..layout import Layout
from ..matrices import CompressedMatrix, SeparateLowRankMatrix
from ._base import FORMATS
from ._lowrank import LowRankFormat


@FORMATS.register("lowrank-separate")
class SeparateLowRankFormat(LowRankFormat):
    """Factors of every block, each pair of the same rank."""

    name = "lowrank-separate"
    stores = (SeparateLowRankMatrix,)
    joint = False

    @classmethod
    def pack(cls, matrices: Iterable[CompressedMatrix], layout: Layout) -> Self:
        """Encode both factors of every block."""

        def factors() -> Iterator[tuple[Sequence[Tensor], Sequence[Tensor]]]:
            for matrix in matrices:
                assert isinstance(matrix, SeparateLowRankMatrix)
                yield [part.left for part in matrix.parts], [part.right for part in matrix.parts]

        return cls.pack_factors(factors(), layout)
