"""One matrix after compression, before its values are rounded: what a method hands to a stored format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from .bits import pack_mask, unpack_mask


class CompressedMatrix(ABC):
    """A compressed (p_I, D) matrix."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(p_I, D)."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Its rank, rows or values, whichever it has: with the shape of the layer it tells the size."""

    @abstractmethod
    def restore(self) -> torch.Tensor:
        """Return the (p_I, D) matrix that it stands for, in exact values."""


@dataclass(frozen=True)
class SparseMatrix(CompressedMatrix):
    """Some entries of a matrix, the others zero.

    Parameters
    ----------
    values
        (nonzeros,) float tensor, in row-major order.
    bits
        (p_I, ceil(D / 8)) uint8 tensor, a bit set where a value is kept: see :func:`~.bits.pack_mask`.
    columns
        D.
    """

    values: torch.Tensor
    bits: torch.Tensor
    columns: int

    @classmethod
    def where(cls, mask: torch.Tensor, matrix: torch.Tensor) -> SparseMatrix:
        """Keep the entries of a (p_I, D) matrix at which a (p_I, D) bool mask is true."""
        return cls(matrix[mask], pack_mask(mask), mask.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """(p_I, D)."""
        return self.bits.shape[0], self.columns

    @property
    def count(self) -> int:
        """How many values are kept."""
        return self.values.numel()

    @property
    def mask(self) -> torch.Tensor:
        """(p_I, D) bool tensor, true where a value is kept; unpacked whenever it is asked for."""
        return unpack_mask(self.bits, self.columns)

    def restore(self) -> torch.Tensor:
        """Return the (p_I, D) matrix with the values in their places."""
        matrix = torch.zeros(self.shape, dtype=self.values.dtype, device=self.values.device)
        return matrix.masked_scatter_(self.mask, self.values)


@dataclass(frozen=True)
class LowRankMatrix(CompressedMatrix):
    """A product of two thin matrices; the singular values are inside `left`.

    Parameters
    ----------
    left, right
        (p_I, k) and (k, D) float tensors.
    """

    left: torch.Tensor
    right: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(p_I, D)."""
        return self.left.shape[0], self.right.shape[1]

    @property
    def count(self) -> int:
        """The rank k."""
        return len(self.right)

    def restore(self) -> torch.Tensor:
        """Return the (p_I, D) product."""
        return self.left @ self.right


@dataclass(frozen=True)
class SeparateLowRankMatrix(CompressedMatrix):
    """A product of two thin matrices for each weight matrix by itself, all of one rank.

    Parameters
    ----------
    parts
        The factors of each matrix, in the order of the design matrix's columns.
    """

    parts: tuple[LowRankMatrix, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(p_I, D)."""
        return self.parts[0].shape[0], sum(part.shape[1] for part in self.parts)

    @property
    def count(self) -> int:
        """The rank of the first matrix; the others may have ranks of their own."""
        return self.parts[0].count

    def restore(self) -> torch.Tensor:
        """Return the (p_I, D) matrix of the products side by side."""
        return torch.cat([part.restore() for part in self.parts], dim=1)


@dataclass(frozen=True)
class DenseMatrix(CompressedMatrix):
    """A whole matrix, as it is.

    Parameters
    ----------
    matrix
        (p_I, D) float tensor.
    """

    matrix: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(p_I, D)."""
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self.matrix)

    def restore(self) -> torch.Tensor:
        """Return the (p_I, D) matrix itself."""
        return self.matrix


@dataclass(frozen=True)
class NeuronSubset(CompressedMatrix):
    """Some neurons of an expert, which alone are a smaller expert: their places need not be stored.

    Parameters
    ----------
    rows
        (c, D) float tensor, the kept neurons.
    places
        (c,) int64 tensor, where they stood.
    neurons
        p_I, how many there were.
    """

    rows: torch.Tensor
    places: torch.Tensor
    neurons: int

    @property
    def shape(self) -> tuple[int, int]:
        """(p_I, D)."""
        return self.neurons, self.rows.shape[1]

    @property
    def count(self) -> int:
        """How many neurons are kept."""
        return len(self.rows)

    def restore(self) -> torch.Tensor:
        """Return the (p_I, D) expert whose other neurons are zero, and so contribute nothing."""
        matrix = self.rows.new_zeros(self.shape)
        matrix[self.places] = self.rows
        return matrix


@dataclass(frozen=True)
class NeuronClusters(CompressedMatrix):
    """The centroids of an expert's neurons: with W2 scaled by the sizes of the clusters they are a smaller expert.

    Parameters
    ----------
    centroids
        (c, D) float tensor, not scaled; the sizes are multiplied into W2 where the smaller expert is stored.
    labels
        (p_I,) int64 tensor: the cluster of every neuron.

    References
    ----------
    ResMoE, appendix A.5: the smaller expert computes what the p_I centroids C^T W~ compute.
    """

    centroids: torch.Tensor
    labels: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(p_I, D)."""
        return len(self.labels), self.centroids.shape[1]

    @property
    def count(self) -> int:
        """The number of clusters."""
        return len(self.centroids)

    @property
    def sizes(self) -> torch.Tensor:
        """(c,) how many neurons each cluster has, as floats."""
        return self.labels.bincount(minlength=self.count).to(self.centroids.dtype)

    def restore(self) -> torch.Tensor:
        """Return the (p_I, D) matrix C^T W~: each neuron's centroid in its place."""
        return self.centroids[self.labels]
