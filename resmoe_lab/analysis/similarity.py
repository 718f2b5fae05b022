"""Cosine similarity of the experts of a layer."""

from __future__ import annotations

import numpy as np
import torch

from ..centers import Center
from ..experts import ExpertStack


def expert_similarity(stack: ExpertStack, center: Center | None = None) -> np.ndarray:
    """Cosine similarity of the experts' design matrices, aligned by a center where one is given.

    Returns
    -------
    numpy.ndarray
        (N, N) float64, ones on the diagonal; a zero expert is similar to nothing.
    """
    weights = stack.weights
    if center is not None:
        index = center.permutations.to(weights.device)[:, :, None].expand_as(weights)
        weights = torch.gather(weights, 1, index)
    flat = weights.flatten(1).double()
    norms = flat.norm(dim=1, keepdim=True)
    unit = flat / norms.where(norms > 0, torch.ones_like(norms))
    similarity = (unit @ unit.T).clamp(-1, 1)
    similarity.fill_diagonal_(1.0)
    return similarity.cpu().numpy()
