"""What a compression method is, what it returns, and the registry of methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from .._core.errors import UsageError
from .._core.params import KEEP
from .._core.registry import Registry
from ..centers import CommonExpert
from ..experts import ExpertStack
from ._pieces import Piece


@dataclass(frozen=True)
class CompressedLayer:
    """The experts of one layer as they are stored.

    Parameters
    ----------
    method, keep
        What made it.
    pieces
        One stored matrix an expert: the expert itself, or its residual where there is a center.
    common
        The common expert that the residuals belong to (None: the pieces stand alone).
    """

    method: str
    keep: float
    pieces: tuple[Piece, ...]
    common: CommonExpert | None

    def restore(self) -> torch.Tensor:
        """Return the (N, p_I, D) restored experts, in the order of the center's rows.

        An expert computes the same whatever the order of its neurons, so the permutations need not be undone.
        """
        matrices = torch.stack([piece.restore() for piece in self.pieces])
        return matrices if self.common is None else matrices.add_(self.common.center)

    @property
    def center_name(self) -> str:
        """Name of the center, ``"none"`` where there is none."""
        return "none" if self.common is None else self.common.name


class Method(ABC):
    """One way to compress the experts of a layer: subclass it in a file of its own and register it.

    Attributes
    ----------
    name
        What users type.
    title
        What charts and tables call it.
    reference
        Where it comes from.
    uses_center
        Whether it stores residuals from a common expert.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reference: ClassVar[str]
    uses_center: ClassVar[bool] = False

    @abstractmethod
    def compress_matrix(self, matrix: torch.Tensor, keep: float) -> Piece:
        """Compress one (p_I, D) matrix: an expert, or its residual."""

    @abstractmethod
    def matrix_errors(self, matrix: torch.Tensor, keeps: Sequence[float]) -> list[float]:
        """Squared Frobenius error that :meth:`compress_matrix` leaves at every keep, without running it at each."""

    @abstractmethod
    def outline(self, rows: int, columns: int, *, keep: float) -> Piece:
        """The form of the piece that :meth:`compress_matrix` makes of such a matrix, on the meta device."""

    def compress(self, stack: ExpertStack, keep: float, common: CommonExpert | None = None) -> CompressedLayer:
        """Compress the experts of a layer.

        Parameters
        ----------
        stack
            The experts.
        keep
            Kept fraction of the parameters per expert, in (0, 1].
        common
            The common expert; needed if, and used only if, the method stores residuals.

        Raises
        ------
        UsageError
            If `keep` is out of range, or the method needs a center and has none.
        """
        KEEP.validate(keep)
        pieces = tuple(self.compress_matrix(matrix, keep) for matrix in self.matrices(stack, common))
        return CompressedLayer(self.name, keep, pieces, common if self.uses_center else None)

    def errors(self, stack: ExpertStack, keeps: Sequence[float], common: CommonExpert | None = None) -> list[float]:
        """Approximation error (1/N) sum_k ||W_k[T_k] - restored_k||_F^2 at every keep."""
        for keep in keeps:
            KEEP.validate(keep)
        totals = [0.0] * len(keeps)
        for matrix in self.matrices(stack, common):
            totals = [total + error for total, error in zip(totals, self.matrix_errors(matrix, keeps), strict=True)]
        return [total / stack.num_experts for total in totals]

    def matrices(self, stack: ExpertStack, common: CommonExpert | None) -> Iterator[torch.Tensor]:
        """Yield what the method compresses: experts, or their residuals, one at a time."""
        if not self.uses_center:
            return iter(stack.weights)
        if common is None:
            raise UsageError(f"method {self.name!r} needs a center: find one first, for example 'wasserstein'")
        return common.residuals(stack)


METHODS: Registry[type[Method]] = Registry("method", "resmoe_lab.methods")
