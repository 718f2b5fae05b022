"""What a stored format is, and the registry of formats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from ..._core.errors import UsageError
from ..._core.registry import Registry
from ..encodings import TensorSpec
from ..layout import Layout
from ..ledger import Entry
from ..matrices import CompressedMatrix
from ..scatter import put_center


class Format(nn.Module, ABC):
    """The stored experts of one layer, or their residuals: subclass it in a file of its own and register it.

    Its parameters are what is stored, and no more. Everything is in the layout of the design matrix: rows are neurons,
    columns are [W1, W3, W2^T].

    Parameters
    ----------
    layout
        Everything but the tensors.
    tensors
        The stored tensors, named as :meth:`tensors` names them.

    Attributes
    ----------
    name
        Its name in the registry.
    stores
        The kinds of compressed matrices that it can store.
    residuals_only, experts_only
        Whether it stores nothing but residuals beside a center, or nothing but experts without one.
    kinds
        The kinds of encodings that it stores values in; none named: any that users may choose.
    values_item
        What a ledger calls its values: ``"values"`` or ``"factors"``.
    multiplies
        Whether it can be multiplied as it is stored.
    max_batch_experts
        How many experts can be multiplied in one batch of products.
    takes_vectors
        Whether it has a way of its own for a single token.
    variable_size
        Whether only storing tells how many bytes there are; such a format is used only where it is asked for.
    """

    name: ClassVar[str]
    stores: ClassVar[tuple[type[CompressedMatrix], ...]]
    residuals_only: ClassVar[bool] = False
    experts_only: ClassVar[bool] = False
    kinds: ClassVar[tuple[str, ...]] = ()
    values_item: ClassVar[str] = "values"
    multiplies: ClassVar[bool] = True
    takes_vectors: ClassVar[bool] = False
    variable_size: ClassVar[bool] = False
    max_batch_experts: int = 1

    def __init__(self, layout: Layout, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.layout = layout
        self.counts = layout.counts
        self.num_neurons = layout.neurons
        self.width = layout.width
        *self.in_blocks, self.out_block = layout.columns

    # -- what is stored ----------------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def tensors(cls, layout: Layout) -> dict[str, TensorSpec]:
        """Return shape and dtype of every stored tensor, by its name in the module."""

    @classmethod
    @abstractmethod
    def pack(cls, matrices: Iterable[CompressedMatrix], layout: Layout) -> Self:
        """Encode compressed matrices, one an expert, taken one by one, and return the module that holds them.

        Parameters
        ----------
        matrices
            Of a kind in :attr:`stores`.
        layout
            How; its counts are replaced by those of the matrices.

        Raises
        ------
        UsageError
            If the matrices do not fit into the format.
        """

    @classmethod
    def fits(cls, layout: Layout) -> bool:
        """Whether a layer of this layout can be stored so."""
        return True

    @classmethod
    def adapted(cls, layout: Layout, kind: type[CompressedMatrix]) -> Layout:
        """Return a layout with what the format alone decides, for matrices of a kind: most take it as it is."""
        return layout

    @classmethod
    def empty(cls, layout: Layout) -> Format:
        """Make a module with tensors of the right shapes and no contents, on the current device."""
        return cls(layout, {name: spec.empty() for name, spec in cls.tensors(layout).items()})

    @classmethod
    def entries(cls, layout: Layout) -> list[Entry]:
        """Return the lines of the ledger, from the layout alone: values, scales and indices."""
        sizes = {cls.values_item: 0, "scales": 0, "indices": 0}
        for name, spec in cls.tensors(layout).items():
            items = {"data": cls.values_item, "scale": "scales", "zero": "scales"}
            item = items.get(name.rpartition(".")[2], "indices")
            sizes[item] += spec.nbytes
        return [Entry(item, cls.name, nbytes) for item, nbytes in sizes.items() if nbytes or item == cls.values_item]

    @classmethod
    @abstractmethod
    def multiplications(cls, layout: Layout) -> list[int]:
        """Return how many multiplications one token costs in each stored expert, computed as it is stored."""

    # -- what it computes --------------------------------------------------------------------------------------------

    def restore(self, matrix: Tensor, center: Tensor | None, expert: int) -> None:
        """Fill a (p_I, D) matrix with the (B, p_I, p) center, or with zeros, and the stored expert on top of it."""
        put_center(matrix, center)
        self.add_to(matrix, expert)

    @abstractmethod
    def add_to(self, matrix: Tensor, expert: int) -> None:
        """Add the (p_I, D) stored expert to a matrix, in place."""

    def restore_aligned(self, expert: int, dtype: torch.dtype) -> Tensor:
        """Return the (p_I, D) matrix that the stored expert stands for, each neuron in the place that it came from."""
        matrix = torch.empty(self.num_neurons, self.width, dtype=dtype, device=next(self.parameters()).device)
        self.restore(matrix, None, expert)
        return matrix

    def project_in(self, experts: slice, hidden: Tensor, products: Sequence[Tensor] | None) -> list[Tensor]:
        """Add the experts' share to the center's products on the way into the hidden layer.

        Parameters
        ----------
        experts
            E experts that stand side by side, at most :attr:`max_batch_experts`.
        hidden
            (E, n, p) tokens of each.
        products
            One (E, n, p_I) tensor for each block on the way in, which may be overwritten where no gradient is wanted;
            None where there is no center, and the share is all there is.
        """
        raise NotImplementedError

    def project_out(self, experts: slice, neurons: Tensor) -> Tensor:
        """Return the experts' share of the output, (E, n, p), of the (E, n, p_I) activated neurons."""
        raise NotImplementedError

    def project_in_token(
        self, experts: Sequence[int], hidden: Tensor, center_products: Sequence[Tensor] | None
    ) -> list[Tensor]:
        """:meth:`project_in` for one (p,) token: for each block the (E, p_I) products of some experts.

        `center_products` has the (p_I,) product of the center for each block; it is not overwritten.
        """
        raise NotImplementedError

    def project_out_token(self, experts: Sequence[int], neurons: Tensor, output: Tensor) -> None:
        """Add :meth:`project_out` of the (E, p_I) weighted neurons of one token to its (p,) output."""
        raise NotImplementedError

    # -- several processes -------------------------------------------------------------------------------------------

    def shard_neurons(self, rank: int, world_size: int) -> Format:
        """Copy what process `rank` of `world_size` holds where each has a part of every expert's neurons."""
        raise NotImplementedError

    def shard_experts(self, experts: Sequence[int]) -> Format:
        """Copy what is stored of some experts."""
        raise NotImplementedError


FORMATS: Registry[type[Format]] = Registry("format", "resmoe_lab.store.formats")


def formats_of(kind: type[CompressedMatrix], *, has_center: bool) -> list[type[Format]]:
    """Return the formats that can store a kind of compressed matrix, with or without a center beside it."""
    formats = [FORMATS[name] for name in FORMATS]
    return [
        format_class
        for format_class in formats
        if kind in format_class.stores
        and not (format_class.experts_only if has_center else format_class.residuals_only)
    ]


def smallest_format(kind: type[CompressedMatrix], layout: Layout, *, name: str | None = None) -> type[Format]:
    """Return the format in which a layer is smallest, or the one asked for.

    Parameters
    ----------
    kind
        The kind of its compressed matrices.
    layout
        With the counts that it will have; its own format is not looked at.
    name
        What is asked for.

    Raises
    ------
    UsageError
        If the matrices cannot be stored in the format asked for.
    """
    candidates = formats_of(kind, has_center=layout.center is not None)
    if name is not None:
        names = [candidate.name for candidate in candidates]
        if name not in names:
            raise UsageError(f"cannot be stored as {name!r}, expected {' or '.join(names)}")
        candidates = [FORMATS[name]]
    else:
        fixed = [candidate for candidate in candidates if not candidate.variable_size]
        candidates = fixed or candidates
    fitting = [candidate for candidate in candidates if candidate.fits(layout)]
    if not fitting:
        raise UsageError(f"{layout.width} columns do not fit into format {name!r}: choose another")
    return min(fitting, key=lambda candidate: sum(entry.nbytes for entry in candidate.entries(layout)))
