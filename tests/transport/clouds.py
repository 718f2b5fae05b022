"""Experts for tests: unrelated ones, and copies of one expert that were permuted and disturbed."""

from itertools import permutations, product

import torch
from torch import Tensor

from resmoe_lab.transport import objective


def unrelated(experts: int, neurons: int, width: int, *, seed: int = 0) -> Tensor:
    return torch.randn(experts, neurons, width, generator=torch.Generator().manual_seed(seed))


def upcycled(experts: int, neurons: int, width: int, *, noise: float = 0.1, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Return the experts and the permutations that align them with the first."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(neurons, width, generator=generator)
    orders = torch.stack([torch.randperm(neurons, generator=generator) for _ in range(experts)])
    noisy = [(base + noise * torch.randn(neurons, width, generator=generator))[order] for order in orders]
    return torch.stack(noisy), torch.stack([order.argsort()[orders[0]] for order in orders])


def brute_force(stack: Tensor, weights: Tensor | None = None) -> float:
    """Return the best objective over all joint permutations; the first expert may stay as it is."""
    shares = torch.ones(len(stack)) if weights is None else weights
    shares = (shares / shares.sum())[:, None, None]
    orders = [torch.tensor(order) for order in permutations(range(stack.shape[1]))]
    best = float("inf")
    for others in product(orders, repeat=len(stack) - 1):
        joint = torch.stack([orders[0], *others])
        aligned = torch.stack([rows[order] for rows, order in zip(stack, joint, strict=True)])
        best = min(best, objective(stack, joint, (shares * aligned).sum(0), weights))
    return best
