"""Switch Transformers call their experts with a mask instead of an index."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SwitchExperts(nn.Module):
    """Packed experts behind the signature of Switch; its router, and what it drops over capacity, stay as they are.

    Parameters
    ----------
    experts
        The packed experts.
    """

    def __init__(self, experts: nn.Module) -> None:
        super().__init__()
        self.experts = experts

    def forward(self, hidden_states: Tensor, selected_experts: Tensor, routing_weights: Tensor) -> Tensor:
        """Compute the selected expert of each token.

        Parameters
        ----------
        hidden_states
            (T, p).
        selected_experts
            (T, 1, N) mask with at most one expert; none for a token that was dropped.
        routing_weights
            (T, 1).
        """
        mask = selected_experts[:, 0]
        nobody = mask.shape[1]
        index = torch.where(mask.any(dim=1), mask.argmax(dim=1), nobody)
        output: Tensor = self.experts(hidden_states, index[:, None], routing_weights)
        return output
