"""From a compressed layer to the module that is stored and run, and from its specification to an empty one.

A packed layer's tensors are the module's own; everything else that it takes to build the module is its specification,
plain values that the config of a checkpoint can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._core.errors import UsageError
from ..experts import Block, Family
from ..methods import Clusters, CompressedLayer, Dense, LowRank, Neurons, Piece, SeparateLowRank, Sparse
from ..store import Entry, Ledger, weigh
from ..store.encoding import Encoded, center_type, encode_ragged, encode_rows
from ..store.sparse import MOST_COLUMNS, mask_starts, pack_columns
from .experts import ResMoEExperts, apart
from .lowrank import LowRankResidual
from .residuals import Residual, RowsResidual, WholeExperts
from .scattered import BitmaskResidual, CsrResidual
from .specs import Spec

#: The forms that each kind of piece can be stored in, the usual one first.
FORMS: dict[type, tuple[str, ...]] = {
    Sparse: ("bitmask", "csr16"),
    LowRank: ("lowrank-joint",),
    SeparateLowRank: ("lowrank-separate",),
    Neurons: ("rows", "whole"),
    Dense: ("whole",),
    Clusters: ("whole",),
}


def pack(
    layer: CompressedLayer,
    blocks: Sequence[Block],
    *,
    activation: Callable[[Tensor], Tensor],
    values: str = "bf16",
    form: str | None = None,
    **options: Any,
) -> ResMoEExperts:
    """Pack a compressed layer into the module that stores and runs it.

    Parameters
    ----------
    layer
        What a method made of the experts.
    blocks
        What the columns of their design matrices are.
    activation
        The experts' activation function.
    values
        A key of :data:`~resmoe_lab.store.encoding.VALUE_TYPES`; where it is ``"int8"``, the center has 16 bits.
    form
        One of :data:`FORMS` of the pieces; the usual one if not given, for scattered entries the smaller one.
    options
        Passed on to :class:`ResMoEExperts`.

    Raises
    ------
    UsageError
        If the pieces cannot be stored in that form.
    """
    if layer.center is not None and layer.center.outputs is not None:
        raise UsageError(f"center {layer.center_name!r} permutes outputs too, which no packed form holds: restore it")
    form = choose_form(layer, form, has_center=layer.center is not None)
    residual = _PACKERS[form](layer.pieces, blocks, values)
    return ResMoEExperts(
        apart(layer.center.matrix, blocks).to(center_type(values)) if layer.center is not None else None,
        residual,
        num_experts=len(layer.pieces),
        groups=layer.groups,
        activation=activation,
        **options,
    )


def choose_form(layer: CompressedLayer, form: str | None, *, has_center: bool) -> str:
    """Return the form that a layer's pieces are stored in: the one asked for, or the usual one.

    Raises
    ------
    UsageError
        If the pieces cannot be stored in the form asked for.
    """
    allowed = [name for name in FORMS[type(layer.pieces[0])] if name != ("whole" if has_center else "rows")]
    if form is None:
        smallest = weigh(layer).format
        return smallest if smallest in allowed else allowed[0]
    if form not in allowed:
        raise UsageError(f"method {layer.method!r} cannot be stored as {form!r}, expected {' or '.join(allowed)}")
    return form


def counts_of(pieces: Sequence[Piece]) -> list[int]:
    """For each piece its rank, rows or values, whichever it has."""
    return [_COUNTS[type(piece)](piece) for piece in pieces]


def weigh_packed(module: ResMoEExperts, *, original_bytes: int) -> Ledger:
    """Weigh a packed layer: every byte of its tensors, and nothing else.

    Parameters
    ----------
    module
        The packed layer, on any device.
    original_bytes
        What the ledger compares with.

    Notes
    -----
    Which group an expert belongs to, and every count, stand in the checkpoint's config.
    """
    form = module.residual.form
    sizes = dict.fromkeys(("factors" if form.startswith("lowrank") else "values", "scales", "indices"), 0)
    pieces = next(iter(sizes))
    for name, tensor in module.residual.state_dict().items():
        kind = name.rpartition(".")[2]
        sizes[{"data": pieces, "scale": "scales"}.get(kind, "indices")] += tensor.nbytes
    entries = [Entry(item, form, nbytes) for item, nbytes in sizes.items() if nbytes or item == pieces]
    if module.center is not None:
        entries.append(Entry("center", "dense", module.center.nbytes))
    return Ledger(tuple(entries), original_bytes)


def packed_prefix(family: Family, layer: int) -> str:
    """What the names of a packed layer's tensors begin with; Switch's experts stand behind an adapter."""
    inner = "experts" if family.module_parts[0].fused else "experts.experts"
    return f"{family.module_name(layer)}.{inner}"


def spec_of(module: ResMoEExperts, *, values: str) -> Spec:
    """Return the specification by which :func:`~.specs.outline` builds a module like this one."""
    residual = module.residual
    facts: dict[str, Any] = {"form": residual.form, "values": values, "counts": residual.counts}
    return Spec(
        **facts,
        blocks=tuple((block.name, block.start, block.stop) for block in (*residual.entering, residual.leaving)),
        neurons=residual.num_neurons,
        groups=module.groups,
        center=module.center is not None,
    )


# -- packing ---------------------------------------------------------------------------------------------------------


def _pack_joint(pieces: Sequence[LowRank], blocks: Sequence[Block], values: str) -> Residual:
    left = _rows((piece.left.T for piece in pieces), values)
    right = [_rows((piece.right[:, block.start : block.stop] for piece in pieces), values) for block in blocks]
    return LowRankResidual(blocks, [left], right, ranks=counts_of(pieces))


def _pack_separate(pieces: Sequence[SeparateLowRank], blocks: Sequence[Block], values: str) -> Residual:
    columns = list(zip(*(piece.parts for piece in pieces), strict=True))
    left = [_rows((part.left.T for part in parts), values) for parts in columns]
    right = [_rows((part.right for part in parts), values) for parts in columns]
    return LowRankResidual(blocks, left, right, ranks=counts_of(pieces))


def _pack_rows(pieces: Sequence[Neurons], blocks: Sequence[Block], values: str) -> Residual:
    rows = _rows((piece.rows for piece in pieces), values)
    places = torch.cat([piece.places for piece in pieces]).to(torch.int32)
    return RowsResidual(blocks, rows, places, counts=counts_of(pieces), num_neurons=pieces[0].neurons)


def _pack_whole(pieces: Sequence[Piece], blocks: Sequence[Block], values: str) -> Residual:
    experts = [_smaller(piece, blocks[-1]) for piece in pieces]
    return WholeExperts(blocks, _rows(experts, values), counts=[len(expert) for expert in experts])


def _smaller(piece: Piece, leaving: Block) -> Tensor:
    """The expert that a piece stands for, of as few neurons as compute the same."""
    if isinstance(piece, Neurons):
        return piece.rows
    if isinstance(piece, Clusters):
        expert = piece.centroids.clone()
        sizes = piece.labels.bincount(minlength=len(expert)).to(expert.dtype)
        expert[:, leaving.start : leaving.stop] *= sizes[:, None]
        return expert
    return piece.restore()


def _pack_bitmask(pieces: Sequence[Sparse], blocks: Sequence[Block], values: str) -> Residual:
    bits = torch.stack([piece.bits for piece in pieces])
    return BitmaskResidual(blocks, _sparse_values(pieces, values), bits, counts=counts_of(pieces))


def _pack_csr16(pieces: Sequence[Sparse], blocks: Sequence[Block], values: str) -> Residual:
    if blocks[-1].stop > MOST_COLUMNS:
        raise UsageError(f"{blocks[-1].stop} columns do not fit into 16 bits: store the values as a bitmask")
    starts, columns = zip(*(pack_columns(piece.mask) for piece in pieces), strict=True)
    return CsrResidual(
        blocks, _sparse_values(pieces, values), torch.stack(starts), torch.cat(columns), counts=counts_of(pieces)
    )


def _sparse_values(pieces: Sequence[Sparse], values: str) -> Encoded:
    return Encoded.join(encode_ragged(piece.values, mask_starts(piece.bits).diff(), values) for piece in pieces)


def _rows(matrices: Iterable[Tensor], values: str) -> Encoded:
    return Encoded.join(encode_rows(matrix, values) for matrix in matrices)


_COUNTS: dict[type, Callable[[Any], int]] = {
    Sparse: lambda piece: piece.values.numel(),
    LowRank: lambda piece: len(piece.right),
    SeparateLowRank: lambda piece: len(piece.parts[0].right),
    Neurons: lambda piece: len(piece.rows),
    Dense: lambda piece: len(piece.matrix),
    Clusters: lambda piece: len(piece.centroids),
}
_PACKERS: dict[str, Callable[..., Residual]] = {
    "bitmask": _pack_bitmask,
    "csr16": _pack_csr16,
    "lowrank-joint": _pack_joint,
    "lowrank-separate": _pack_separate,
    "rows": _pack_rows,
    "whole": _pack_whole,
}
