"""What tells an expert from the center, in the form it is stored in: how it is multiplied, and how it is restored.

Everything is in the layout of the design matrix: rows are neurons, columns are [W1, W3, W2^T]. `enter` and `leave` are
the products on the way into the hidden layer and out of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..experts import Block


class Residual(nn.Module, ABC):
    """The residuals of the experts of one layer.

    Parameters
    ----------
    blocks
        What the columns are; the last one leaves, the others enter.
    num_neurons
        p_I.
    """

    def __init__(self, blocks: Sequence[Block], *, num_neurons: int) -> None:
        super().__init__()
        self.num_neurons = num_neurons
        *self.entering, self.leaving = blocks

    @abstractmethod
    def enter(self, expert: int, hidden: Tensor, products: Sequence[Tensor]) -> list[Tensor]:
        """Add the residual's share to the center's products.

        Parameters
        ----------
        expert
            Whose residual.
        hidden
            (n, p) tokens.
        products
            One (n, p_I) tensor for each entering block; they may be overwritten where no gradient is wanted.
        """

    @abstractmethod
    def leave(self, expert: int, neurons: Tensor) -> Tensor:
        """Return the residual's share of the output, (n, p), of the (n, p_I) activated neurons."""

    @abstractmethod
    def restore(self, expert: int) -> Tensor:
        """Return the (p_I, D) residual as one matrix."""


class LowRankResidual(Residual):
    """Thin factors, one pair for each block or one for all of them.

    Parameters
    ----------
    blocks
        What the columns are.
    left, right
        For each block the (sum of the experts' ranks, p_I) and (sum of the experts' ranks, p) factors, an expert's rows
        one after another. With one `left` for all blocks the factorisation is joint.
    ranks
        Rank of each expert.
    """

    def __init__(
        self, blocks: Sequence[Block], left: Sequence[Tensor], right: Sequence[Tensor], *, ranks: Sequence[int]
    ) -> None:
        super().__init__(blocks, num_neurons=left[0].shape[1])
        self.left = nn.ParameterList(nn.Parameter(factor, requires_grad=False) for factor in left)
        self.right = nn.ParameterList(nn.Parameter(factor, requires_grad=False) for factor in right)
        ends = torch.tensor(ranks).cumsum(0).tolist()
        self._rows = [slice(end - rank, end) for end, rank in zip(ends, ranks, strict=True)]

    def _factors(self, expert: int, block: int) -> tuple[Tensor, Tensor]:
        rows = self._rows[expert]
        return self.left[block if len(self.left) > 1 else 0][rows], self.right[block][rows]

    def enter(self, expert: int, hidden: Tensor, products: Sequence[Tensor]) -> list[Tensor]:
        """Add ``(hidden R^T) L^T`` to each product."""
        added = []
        for block, product in enumerate(products):
            left, right = self._factors(expert, block)
            added.append(add_product(product, hidden @ right.T, left))
        return added

    def leave(self, expert: int, neurons: Tensor) -> Tensor:
        """Return ``(neurons L) R``."""
        left, right = self._factors(expert, len(self.entering))
        return (neurons @ left.T) @ right

    def restore(self, expert: int) -> Tensor:
        """Return the product of the factors of every block."""
        factors = [self._factors(expert, block) for block in range(len(self.entering) + 1)]
        return torch.cat([left.T @ right for left, right in factors], dim=1)


class RowsResidual(Residual):
    """Some whole neurons of each expert.

    Parameters
    ----------
    blocks
        What the columns are.
    values
        (sum of the experts' counts, D) kept rows, an expert's one after another.
    neurons
        (sum of the experts' counts,) int64: which neuron each row is.
    counts
        Kept rows of each expert.
    num_neurons
        p_I.
    """

    def __init__(
        self, blocks: Sequence[Block], values: Tensor, neurons: Tensor, *, counts: Sequence[int], num_neurons: int
    ) -> None:
        super().__init__(blocks, num_neurons=num_neurons)
        self.values = nn.Parameter(values, requires_grad=False)
        self.register_buffer("neurons", neurons)
        ends = torch.tensor(counts).cumsum(0).tolist()
        self._rows = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]

    def enter(self, expert: int, hidden: Tensor, products: Sequence[Tensor]) -> list[Tensor]:
        """Add the kept rows' products at their neurons."""
        values, neurons = self.values[self._rows[expert]], self.neurons[self._rows[expert]]
        return [
            product.index_add(1, neurons, hidden @ values[:, block.start : block.stop].T)
            for block, product in zip(self.entering, products, strict=True)
        ]

    def leave(self, expert: int, neurons: Tensor) -> Tensor:
        """Return the kept neurons' share."""
        rows = self._rows[expert]
        return neurons[:, self.neurons[rows]] @ self.values[rows, self.leaving.start : self.leaving.stop]

    def restore(self, expert: int) -> Tensor:
        """Return a matrix with the kept rows in their places."""
        rows = self._rows[expert]
        matrix = self.values.new_zeros(self.num_neurons, self.values.shape[1])
        return matrix.index_copy_(0, self.neurons[rows], self.values[rows])


def add_product(product: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return ``product + a b``, in place where no gradient is wanted."""
    if torch.is_grad_enabled() or product.dtype != a.dtype:
        return product + a @ b
    return product.addmm_(a, b)
