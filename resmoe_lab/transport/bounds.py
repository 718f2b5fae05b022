"""A bound for all pairs of experts at once, from the distances between the center's own rows.

Let c be the center, r_k(i) the distance of the aligned expert k's row i from c_i, and r(i) the largest of them. By the
triangle inequality, row i of any expert is at least ``|c_i - c_j| - r(i) - r(j)`` away from row j of any other. Where
that is more than the aligned rows are apart, as it is with copies that have not moved too far, the aligned match of
every pair is optimal: N (N - 1) / 2 assignments are settled by one matrix of distances, or less than one.

Copies that have moved farther take N more matrices, of the distances between every expert and the center. With the
residuals R_k = W_k - C,

    |w_ki - w_lj|^2 = |w_ki - c_j|^2 + |w_lj - c_i|^2 - |c_i - c_j|^2 - 2 <r_ki, r_lj>,

and only the last term is not known; it is at most ``2 r(i) r(j)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .cost import blocks, rounding
from .matching import FIRST_LOOK, NARROW, Pair
from .problem import Problem

#: Columns are added until so many of the rows are settled, if that can be expected at all.
MOST = 0.99
#: From so many experts on, N matrices of distances from the center are clearly fewer than those of all pairs.
MANY = 8


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
    farthest = apart.amax((0, 1))
    pair = Pair(center, center, products)
    reach = _reach(pair, radius, farthest)
    columns = _columns_for_experts(pair, farthest)
    if problem.count >= MANY and bool((reach < farthest / 2).any()) and columns <= pair.width:
        nearest = _nearest_experts(problem, permutations, center=center[:, :columns], products=products)
        again = Pair(center[:, :columns], center[:, :columns], products)
        again.extend(columns)
        reach = torch.maximum(reach, _reach_by_experts(again, nearest, farthest))
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


def _columns_for_experts(pair: Pair, apart: Tensor) -> int:
    """Guess how many columns it takes until the rows of the center are farther apart than aligned rows are."""
    norms, share = pair.a_norms.float(), []
    for part in blocks(*pair.products.shape):
        known = (pair.products[part] + norms[part, None] + norms).clamp_(min=1e-30)
        diagonal = torch.arange(part.start, part.stop, device=known.device)[:, None]
        share.append(apart[part].float() / known.scatter_(1, diagonal, torch.inf).amin(1))
    return int(1.25 * pair.columns * float(torch.cat(share).quantile(MOST))) + 1


def _nearest_experts(problem: Problem, permutations: Tensor, *, center: Tensor, products: Tensor) -> Tensor:
    """Return ``min_k |w_ki - c_j|^2`` for all aligned rows i and rows j of the center, rounding taken off.

    The diagonal holds the largest distance instead, rounding put on: the squared radius over these columns.
    """
    width = center.shape[1]
    least = torch.full_like(products, torch.inf)
    radius = torch.zeros(len(center), device=center.device)
    allowance = rounding(width)
    for k in range(problem.count):
        pair = Pair(problem.experts[k][:, :width], center, products)
        pair.extend(width)
        order = permutations[k].to(center.device)
        norms, center_norms = pair.a_norms[order].float(), pair.b_norms.float()
        for part in blocks(*products.shape):
            known = products[order[part]] + (1 - allowance) * (norms[part, None] + center_norms)
            torch.minimum(least[part], known, out=least[part])
        own = products[order, torch.arange(len(order), device=order.device)] + (1 + allowance) * (norms + center_norms)
        radius = torch.maximum(radius, own)
    least.diagonal().copy_(radius.clamp_(min=0))
    return least


def _reach_by_experts(pair: Pair, nearest: Tensor, apart: Tensor) -> Tensor:
    """Return the least that row i of any expert and row j of another are apart, less ``apart(j) / 2``, for every i."""
    norms = (pair.a_norms * (1 + rounding(pair.width))).float()
    radius = nearest.diagonal().sqrt()
    reach = []
    for part in blocks(*pair.products.shape):
        between = pair.products[part] + norms[part, None] + norms
        left = nearest[part] + nearest[:, part].T - between - 2 * radius[part, None] * radius - apart.float() / 2
        diagonal = torch.arange(part.start, part.stop, device=left.device)[:, None]
        reach.append(left.scatter_(1, diagonal, torch.inf).amin(1))
    return torch.cat(reach).double()
