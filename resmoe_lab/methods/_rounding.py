"""What storing values in fewer bits costs at every kept fraction, without compressing at each of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..store.encodings import Encoding, roundtrip
from ..store.formats import FORMATS, LowRankFormat
from ..store.layout import Layout
from ..store.matrices import CompressedMatrix


def prune_rounding(matrix: torch.Tensor, counts: Sequence[int], encoding: Encoding) -> list[float] | None:
    """Return the squared error of rounding the `count` largest entries of a (p_I, D) matrix, for every count.

    None where the rounding of an entry depends on which others are kept.
    """
    if not encoding.encoder.entries_round_alone:
        return None
    from ._passes import kept_sums

    rows = matrix.detach().float().cpu().contiguous()
    squares = (rows - roundtrip(rows, encoding)).square().numpy()
    return kept_sums(rows.numpy(), squares, counts)


def rank_errors(matrix: torch.Tensor, factors: CompressedMatrix, ranks: Sequence[int], layout: Layout) -> list[float]:
    """Return the squared error of a (p_I, D) matrix at every rank, from rounded factors of the largest.

    Parameters
    ----------
    matrix
        What is approximated.
    factors
        Of at least the largest rank, the largest singular values first.
    ranks
        In any order; zero is allowed.
    layout
        How factors are stored: each singular direction is rounded by itself, whatever others there are.
    """
    stored = FORMATS[layout.format].pack([factors], layout)
    assert isinstance(stored, LowRankFormat)
    rest, errors, before = matrix.clone(), dict[int, float](), 0
    for rank in sorted(set(ranks)):
        for number, block in enumerate(layout.columns):
            left, right, scale = stored.factors(slice(before, rank), number, matrix.dtype)
            left = left if scale is None else left * scale[:, None]
            rest[:, block.start : block.stop].addmm_(left.T, right, alpha=-1)
        errors[rank] = float(np.sum([float(rows.double().square().sum()) for rows in rest.split(256)]))
        before = rank
    return [errors[rank] for rank in ranks]
