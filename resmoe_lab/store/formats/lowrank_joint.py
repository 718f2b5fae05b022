"""Low-rank experts whose blocks share one left factor: the smallest at a given error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Self

from torch import Tensor

from ..layout import Layout
from ..matrices import CompressedMatrix, LowRankMatrix
from ._base import FORMATS
from ._lowrank import LowRankFormat


@FORMATS.register("lowrank-joint")
class JointLowRankFormat(LowRankFormat):
    """Factors of the whole design matrix."""

    name = "lowrank-joint"
    stores = (LowRankMatrix,)
    joint = True

    @classmethod
    def pack(cls, matrices: Iterable[CompressedMatrix], layout: Layout) -> Self:
        """Encode the left factor, and the right one block by block."""

        def factors() -> Iterator[tuple[Sequence[Tensor], Sequence[Tensor]]]:
            for matrix in matrices:
                assert isinstance(matrix, LowRankMatrix)
                yield [matrix.left], [matrix.right[:, block.start : block.stop] for block in layout.columns]

        return cls.pack_factors(factors(), layout)
