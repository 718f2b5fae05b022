"""A bound for all pairs of experts at once, from the distances between the center's own rows.

Let c be the center, r_k(i) the distance of the aligned expert k's row i from c_i, and r(i) the largest of them. By the
triangle inequality, row i of any expert is at least ``|c_i - c_j| - r(i) - r(j)`` away from row j of any other. Where
that is more than the aligned rows are apart, as it is with copies that have not moved too far, the aligned match of
every pair is optimal: N (N - 1) / 2 assignments are settled by one matrix of distances, or less than one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .cost import blocks, rounding
from .matching import FIRST_LOOK, NARROW, Pair
from .problem import Problem

#: Columns are added until so many of the rows are settled, if that can be expected at all.
MOST = 0.99


def screen(problem: Problem, permutations: Tensor, *, center: Tensor, products: Tensor) -> tuple[Tensor, Tensor]:
    """Bound the squared distances of all pairs of experts.

    Parameters
    ----------
    problem, permutations
        The experts and how they are aligned, (N, p_I) int64.
    center
        Their mean, (p_I, D) float32.
    products
        (p_I, p_I) float32 to work in.

    Returns
    -------
    aligned, bounds
        (N, N) float64 on the CPU: the sums of the squared distances between aligned rows, and lower bounds of what any
        other match would cost. Where they are equal, the aligned match is optimal.
    """
    apart, radius = aligned_distances(problem, permutations, center)
    reach = _reach(Pair(center, center, products), radius, apart.amax((0, 1)))
    half = apart / 2
    bounds = (torch.minimum(half, reach) + half).sum(2).clamp_(min=0)
    return apart.sum(2).cpu(), bounds.cpu()


def aligned_distances(problem: Problem, permutations: Tensor, center: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared distances between aligned rows, (N, N, p_I), and the radius around the center's, (p_I,).

    Both are float64. The distances come from the products of the residuals, which do not cancel as the experts' would.
    """
    apart, radius = [], []
    for part in blocks(problem.neurons, problem.count * problem.width):
        rows = torch.stack([problem.expert(k, permutations[k][part]) for k in range(problem.count)], 1)
        residuals = rows.sub_(center[part, None])
        gram = torch.bmm(residuals, residuals.transpose(1, 2)).double()
        norms = gram.diagonal(dim1=1, dim2=2)
        radius.append(norms.amax(1).sqrt())
        apart.append((norms[:, :, None] + norms[:, None, :] - 2 * gram).clamp_(min=0))
    return torch.cat(apart).permute(1, 2, 0), torch.cat(radius)


def _reach(pair: Pair, radius: Tensor, apart: Tensor) -> Tensor:
    """Return ``min_j (|c_i - c_j| - r(i) - r(j))^2 - apart(j) / 2`` for every row i, with as few columns as will do."""
    pair.extend(pair.width if pair.width <= NARROW else max(NARROW // 2, int(pair.width * FIRST_LOOK)))
    while True:
        reach, growth = _look(pair, radius, apart)
        needed = pair.columns * float(growth.quantile(MOST))
        if pair.columns == pair.width or bool((reach >= apart / 2).all()) or not pair.columns < needed <= pair.width:
            return reach
        pair.extend(min(pair.width, int(needed * 1.1) + 1))


def _look(pair: Pair, radius: Tensor, apart: Tensor) -> tuple[Tensor, Tensor]:
    """Return the reach as far as is known, and how many times more distance each row needs."""
    norms = pair.a_norms * (1 - rounding(pair.width))
    reach, growth = [], []
    for part in blocks(*pair.products.shape):
        known = (pair.products[part] + norms[part, None].float() + norms.float()).clamp_(min=0)
        span = radius[part, None].float() + radius.float()
        needed = (span + ((apart[part, None] + apart) / 2).sqrt().float()).square()
        left = (known.sqrt() - span).clamp_(min=0).square() - apart.float() / 2
        diagonal = torch.arange(part.start, part.stop, device=left.device)[:, None]
        reach.append(left.scatter_(1, diagonal, torch.inf).amin(1))
        growth.append((needed / known.clamp_(min=1e-30)).scatter_(1, diagonal, 0).amax(1))
    return torch.cat(reach).double(), torch.cat(growth)
