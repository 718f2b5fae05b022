"""A packed layer opened as integers in groups: small in the file, of fixed rate in memory, multiplied as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn

from .._core.params import keep_of_bits
from ..methods import METHODS, MatrixMethod
from ..store.encodings.affine import affine_encoding
from ..store.formats import FORMATS
from ..store.matrices import CompressedMatrix
from .experts import ResMoEExperts

#: Ways to open a checkpoint in which experts are rounded again; their bits are :data:`~.rest.INTEGER_BITS`.
RequantizedMode = Literal["int8", "int4"]


def requantized(module: ResMoEExperts, bits: int) -> ResMoEExperts:
    """Restore the experts of a packed block one by one, and round them to integers in groups.

    Parameters
    ----------
    module
        With its tensors loaded.
    bits
        Of a code: 4 or 8.

    Returns
    -------
    ResMoEExperts
        Without a center, in the format ``grouped``; rounding (asymmetric, to nearest) adds its own error to that of
        what is stored.
    """
    method = METHODS["rtn"]()
    assert isinstance(method, MatrixMethod)
    layout = module.layout
    widths = tuple(block.stop - block.start for block in layout.columns)
    hint = (widths, (None,) * len(widths))

    def rounded() -> Iterator[CompressedMatrix]:
        for expert in range(module.num_experts):
            yield method.compress_matrix(module.restore(expert).float(), keep_of_bits(bits), hint)

    # Counts of other formats are bytes or ranks; these have bits.
    changes = {"format": "grouped", "encoding": affine_encoding(bits), "center": None}
    fresh = layout.model_copy(update={**changes, "counts": (bits,) * layout.num_stored})
    with torch.no_grad():
        stored = FORMATS["grouped"].pack(rounded(), fresh)
    options: dict[str, Any] = {"activation": module.activation, "dtype": module.dtype}
    return ResMoEExperts(None, stored, mode="factored", cache_experts=module.cache_experts, **options)


def requantize_model(model: nn.Module, bits: int) -> None:
    """Replace every packed block of a model, one after another."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ResMoEExperts):
                setattr(parent, name, requantized(child, bits))
