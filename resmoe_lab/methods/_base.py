"""What a compression method is, what it returns, and the registry of methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from .._core.registry import Registry
from ..centers import Center, Statistics
from ..experts import ExpertStack, LayerShape
from ._pieces import Piece


@dataclass(frozen=True)
class CompressedLayer:
    """The experts of one layer as they are stored.

    Parameters
    ----------
    method, keep
        What made it.
    pieces
        The stored matrices: one an expert (the expert itself, or its residual where there is a center), or one a
        group of experts.
    center
        The common expert that the residuals belong to (None: the pieces stand alone).
    groups
        (N,) which piece each expert is restored from, where several share one: the router's choice of expert k means
        piece ``groups[k]``. None: every expert has its own.
    permutations
        (N, p_I) int64: the order of each expert's rows in which it is compared with its group's piece. None: as they
        stand, or as the common expert has them.
    """

    method: str
    keep: float
    pieces: tuple[Piece, ...]
    center: Center | None
    groups: tuple[int, ...] | None = None
    permutations: torch.Tensor | None = None

    @property
    def num_experts(self) -> int:
        """N, however few matrices are stored."""
        return len(self.pieces if self.groups is None else self.groups)

    @property
    def orders(self) -> torch.Tensor | None:
        """(N, p_I) order of each original expert's rows that the restored one has; None: as they stand."""
        return self.permutations if self.center is None else self.center.permutations

    def restore(self) -> torch.Tensor:
        """Return the (N, p_I, D) restored experts, in the order of the center's rows.

        An expert computes the same whatever the order of its neurons, so the permutations need not be undone.
        """
        restored = [piece.restore() for piece in self.pieces]
        matrices = torch.stack(restored if self.groups is None else [restored[group] for group in self.groups])
        if self.center is not None:
            for k, matrix in enumerate(matrices):
                matrix.add_(self.center.expert(k))
        return matrices

    @property
    def center_name(self) -> str:
        """Name of the center, ``"none"`` where there is none."""
        return "none" if self.center is None else self.center.name


class Method(ABC):
    """One way to compress the experts of a layer: subclass it in a file of its own and register it.

    Parameters
    ----------
    seed
        For whatever is random.

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
    needs_statistics
        Whether it cannot do without calibration text.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reference: ClassVar[str]
    uses_center: ClassVar[bool] = False
    needs_statistics: ClassVar[bool] = False

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    @abstractmethod
    def compress(
        self,
        stack: ExpertStack,
        keep: float,
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
    ) -> CompressedLayer:
        """Compress the experts of a layer.

        Parameters
        ----------
        stack
            The experts.
        keep
            Kept fraction of the parameters per expert, in (0, 1].
        center
            The common expert; needed if, and used only if, the method stores residuals.
        statistics
            What calibration text tells about the layer, for the methods that use it.

        Raises
        ------
        UsageError
            If `keep` is out of range, or the method needs a center or statistics and has none.
        """

    @abstractmethod
    def errors(
        self,
        stack: ExpertStack,
        keeps: Sequence[float],
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
    ) -> list[float]:
        """Approximation error (1/N) sum_k ||W_k[T_k] - restored_k||_F^2 at every keep."""

    @abstractmethod
    def outline(self, shape: LayerShape, keep: float) -> tuple[Piece, ...]:
        """The form of the pieces that :meth:`compress` makes of such a layer, on the meta device."""


METHODS: Registry[type[Method]] = Registry("method", "resmoe_lab.methods")
