"""What a compression method returns: the experts of a layer as they are stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch

from .._core.deprecation import warn_renamed
from ..centers import Center
from ..experts import ExpertStack, LayerShape
from ..store.encodings import Encoded
from ..store.formats import Format
from ..store.layout import Layout
from ..store.ledger import Ledger
from ..store.matrices import CompressedMatrix
from ..transport.cost import matched_distances


@dataclass(frozen=True)
class CompressedLayer:
    """The experts of one layer as they are stored: what it restores is what a checkpoint restores to.

    Parameters
    ----------
    method, keep
        What made it.
    shape
        Sizes of the original layer.
    experts
        The stored experts (or their residuals, where there is a center): one each, or one a group.
    center
        The center that the residuals belong to, its values rounded as they are stored (None: there is none).
    center_blocks
        The stored rows of the center, block by block.
    groups
        (N,) which stored expert each one is restored from, where several share one: the router's choice of expert k
        means stored expert ``groups[k]``. None: every expert has its own.
    permutations
        (N, p_I) int64: the order of each expert's rows in which it is compared with its group's. None: as they stand,
        or as the center has them.
    dtype
        What experts are restored in.
    """

    method: str
    keep: float
    shape: LayerShape
    experts: Format
    center: Center | None = None
    center_blocks: tuple[Encoded, ...] = ()
    groups: tuple[int, ...] | None = None
    permutations: torch.Tensor | None = None
    dtype: torch.dtype = torch.float32

    @property
    def common(self) -> Center | None:
        """The old name of `center`."""
        warn_renamed("CompressedLayer.common", "CompressedLayer.center")
        return self.center

    @property
    def layout(self) -> Layout:
        """How it is stored."""
        return self.experts.layout

    @property
    def num_experts(self) -> int:
        """N, however few are stored."""
        return self.shape.num_experts

    @property
    def orders(self) -> torch.Tensor | None:
        """(N, p_I) order of each original expert's rows that the restored one has; None: as they stand."""
        return self.permutations if self.center is None else self.center.permutations

    @property
    def center_name(self) -> str:
        """Name of the center, ``"none"`` where there is none."""
        return "none" if self.center is None else self.center.name

    def restore_expert(self, k: int) -> torch.Tensor:
        """Return the (p_I, D) restored expert k, in the order of the center's rows."""
        matrix = self.experts.restore_aligned(k if self.groups is None else self.groups[k], self.dtype)
        return matrix if self.center is None else matrix.add_(self.center.expert(k))

    def restore(self) -> torch.Tensor:
        """Return the (N, p_I, D) restored experts, in the order of the center's rows.

        An expert computes the same whatever the order of its neurons, so the permutations need not be undone.
        """
        return torch.stack([self.restore_expert(k) for k in range(self.num_experts)])

    def expert_error(self, k: int, original: torch.Tensor, restored: torch.Tensor) -> float:
        """Squared Frobenius distance of the (p_I, D) original expert k, aligned, and what is restored of it."""
        order = torch.arange(len(original)) if self.orders is None else self.orders[k]
        return float(matched_distances(restored, original, order).sum())

    def approximation_error(self, stack: ExpertStack) -> float:
        """(1/N) sum_k ||W_k[T_k] - restored_k||_F^2 in float64, from the restored experts themselves.

        References
        ----------
        ResMoE, equation (4) and the tables of approximation errors.
        """
        errors = (self.expert_error(k, weights, self.restore_expert(k)) for k, weights in enumerate(stack.weights))
        return sum(errors) / stack.num_experts


@dataclass(frozen=True)
class Compressed:
    """What a method makes of a layer, before anything is rounded.

    Parameters
    ----------
    matrices
        One an expert, or one a group; they may be made as they are asked for.
    groups, permutations
        As for :class:`CompressedLayer`.
    """

    matrices: Iterable[CompressedMatrix]
    groups: tuple[int, ...] | None = None
    permutations: torch.Tensor | None = None


class Measured(NamedTuple):
    """The approximation error of a compressed layer, and its bytes: as stored, and as the paper counts."""

    error: float
    nbytes: int
    paper_nbytes: int

    @classmethod
    def of(cls, error: float, ledger: Ledger) -> Self:
        """Take both counts from a ledger."""
        return cls(error, ledger.true_bytes, ledger.paper_bytes)


def stored_center(center: Center | None, layout: Layout) -> tuple[Center | None, tuple[Encoded, ...]]:
    """Return a center with its values as they are stored, and the stored rows of its blocks, if it is stored."""
    if center is None or layout.center is None:
        return center, ()
    blocks = center.encode(layout.columns, layout.center)
    return center.rounded(blocks), blocks
