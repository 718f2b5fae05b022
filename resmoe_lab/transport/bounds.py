"""A lower bound of the distances between all pairs of experts at once, from the center's pairwise row distances.

Let c be the center, r_k(i) the distance of the aligned expert k's row i from c_i, and r(i) the largest of them. By the
triangle inequality, row i of any expert is at least ``|c_i - c_j| - r(i) - r(j)`` away from row j of any other. Where
that exceeds the distances between aligned rows, as with copies under moderate noise, the aligned match of every pair
is optimal: one matrix of distances, or a part of it, replaces N (N - 1) / 2 assignments.

Copies under stronger noise take N more matrices: the distances between every expert and the center. With the
residuals R_k = W_k - C,

    |w_ki - w_lj|^2 = |w_ki - c_j|^2 + |w_lj - c_i|^2 - |c_i - c_j|^2 - 2 <r_ki, r_lj>,

and only the last term is unknown; it is at most ``2 r(i) r(j)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .cost import rounding
from .matching import PartialDistances, initial_columns
from .problem import Problem
from .rows import blocks

#: Columns are added until the bounds of this fraction of the rows are expected to be tight.
ROW_QUANTILE = 0.99
#: With at least this many experts, N matrices of distances to the center are far fewer than those of all pairs.
MIN_EXPERTS = 8
#: If the center's distances seem to need more than this many times all columns, those to the experts prove nothing.
HOPELESS = 1.6


def bound_all_pairs(
    problem: Problem, permutations: Tensor, *, center: Tensor, products: Tensor
) -> tuple[Tensor, Tensor]:
    """Bound the squared Wasserstein distances of all pairs of experts from below.

    Parameters
    ----------
    problem, permutations
        The experts and the permutations that align them, (N, p_I) int64.
    center
        Their mean, (p_I, D) float32.
    products
        (p_I, p_I) float32 buffer.

    Returns
    -------
    aligned, bounds
        (N, N) float64 on the CPU: the sums of the squared distances between aligned rows, and lower bounds of the cost
        of any match. Where they are equal, the aligned match is optimal.
    """
    aligned, radius = aligned_distances(problem, permutations, center)
    max_aligned = aligned.amax((0, 1))
    distances = PartialDistances(center, center, products)
    potential = _center_potential(distances, radius, max_aligned)
    columns = _columns_for_experts(distances, max_aligned)
    promising = columns <= HOPELESS * distances.width
    if problem.count >= MIN_EXPERTS and bool((potential < max_aligned / 2).any()) and promising:
        columns = min(columns, distances.width)
        min_distances = _min_expert_distances(problem, permutations, center=center[:, :columns], products=products)
        distances = PartialDistances(center[:, :columns], center[:, :columns], products)
        distances.extend(columns)
        potential = torch.maximum(potential, _expert_potential(distances, min_distances, max_aligned))
    half = aligned / 2
    bounds = (torch.minimum(half, potential) + half).sum(2).clamp_(min=0)
    return aligned.sum(2).cpu(), bounds.cpu()


def aligned_distances(problem: Problem, permutations: Tensor, center: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared distances between aligned rows, (N, N, p_I), and the radius around the center's, (p_I,).

    Both are float64. The distances come from the products of the residuals, which lose fewer digits to cancellation
    than those of the experts.
    """
    aligned, radius = [], []
    for part in blocks(problem.neurons, problem.count * problem.width):
        rows = torch.stack([problem.expert(k, permutations[k][part]) for k in range(problem.count)], 1)
        residuals = rows.sub_(center[part, None])
        gram = torch.bmm(residuals, residuals.transpose(1, 2)).double()
        norms = gram.diagonal(dim1=1, dim2=2)
        radius.append(norms.amax(1).sqrt())
        aligned.append((norms[:, :, None] + norms[:, None, :] - 2 * gram).clamp_(min=0))
    return torch.cat(aligned).permute(1, 2, 0), torch.cat(radius)


def _center_potential(distances: PartialDistances, radius: Tensor, max_aligned: Tensor) -> Tensor:
    """Return ``min_j (|c_i - c_j| - r(i) - r(j))^2 - max_aligned(j) / 2`` for all i, from as few columns as needed."""
    distances.extend(initial_columns(distances.width))
    while True:
        potential, growth = _bounded_potential(distances, radius, max_aligned)
        needed = distances.columns * float(growth.quantile(ROW_QUANTILE))
        tight = bool((potential >= max_aligned / 2).all())
        if distances.columns == distances.width or tight or not distances.columns < needed <= distances.width:
            return potential
        distances.extend(min(distances.width, int(needed * 1.1) + 1))


def _bounded_potential(distances: PartialDistances, radius: Tensor, max_aligned: Tensor) -> tuple[Tensor, Tensor]:
    """Return the potential from the columns so far, and the factor by which each row's distances would have to grow."""
    norms = distances.a_norms * (1 - rounding(distances.width))
    potential, growth = [], []
    for part in blocks(*distances.products.shape):
        partial = (distances.products[part] + norms[part, None].float() + norms.float()).clamp_(min=0)
        span = radius[part, None].float() + radius.float()
        needed = (span + ((max_aligned[part, None] + max_aligned) / 2).sqrt().float()).square()
        bound = (partial.sqrt() - span).clamp_(min=0).square() - max_aligned.float() / 2
        diagonal = torch.arange(part.start, part.stop, device=bound.device)[:, None]
        potential.append(bound.scatter_(1, diagonal, torch.inf).amin(1))
        growth.append((needed / partial.clamp_(min=1e-30)).scatter_(1, diagonal, 0).amax(1))
    return torch.cat(potential).double(), torch.cat(growth)


def _columns_for_experts(distances: PartialDistances, max_aligned: Tensor) -> int:
    """Estimate how many columns it takes until the center's rows are farther from one another than aligned rows."""
    norms, ratios = distances.a_norms.float(), []
    for part in blocks(*distances.products.shape):
        partial = (distances.products[part] + norms[part, None] + norms).clamp_(min=1e-30)
        diagonal = torch.arange(part.start, part.stop, device=partial.device)[:, None]
        ratios.append(max_aligned[part].float() / partial.scatter_(1, diagonal, torch.inf).amin(1))
    return int(1.25 * distances.columns * float(torch.cat(ratios).quantile(ROW_QUANTILE))) + 1


def _min_expert_distances(problem: Problem, permutations: Tensor, *, center: Tensor, products: Tensor) -> Tensor:
    """Return ``min_k |w_ki - c_j|^2`` for all aligned rows i and center rows j, less the rounding error.

    The diagonal holds the largest distance plus the rounding error instead: the squared radius over these columns.
    """
    width = center.shape[1]
    minimum = torch.full_like(products, torch.inf)
    radius = torch.zeros(len(center), device=center.device)
    allowance = rounding(width)
    for k in range(problem.count):
        distances = PartialDistances(problem.experts[k].columns(slice(width)), center, products)
        distances.extend(width)
        order = permutations[k].to(center.device)
        norms, center_norms = distances.a_norms[order].float(), distances.b_norms.float()
        for part in blocks(*products.shape):
            lower = products[order[part]] + (1 - allowance) * (norms[part, None] + center_norms)
            torch.minimum(minimum[part], lower, out=minimum[part])
        matched = products[order, torch.arange(len(order), device=order.device)]
        radius = torch.maximum(radius, matched + (1 + allowance) * (norms + center_norms))
    minimum.diagonal().copy_(radius.clamp_(min=0))
    return minimum


def _expert_potential(distances: PartialDistances, min_distances: Tensor, max_aligned: Tensor) -> Tensor:
    """Return ``min_j d(i, j) - max_aligned(j) / 2`` for all i, where d bounds the distances of two experts' rows."""
    norms = (distances.a_norms * (1 + rounding(distances.width))).float()
    radius = min_distances.diagonal().sqrt()
    potential = []
    for part in blocks(*distances.products.shape):
        between = distances.products[part] + norms[part, None] + norms
        bound = min_distances[part] + min_distances[:, part].T - between - 2 * radius[part, None] * radius
        bound -= max_aligned.float() / 2
        diagonal = torch.arange(part.start, part.stop, device=bound.device)[:, None]
        potential.append(bound.scatter_(1, diagonal, torch.inf).amin(1))
    return torch.cat(potential).double()
