"""One compressed block of experts, with the signature of the fused experts of transformers 5."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn

from .._core.errors import UsageError
from ..experts import Block
from .batches import add_to_tokens, batches
from .residuals import Residual

Mode = Literal["factored", "restored"]


class ResMoEExperts(nn.Module):
    """The experts of one layer, computed from the center and the residuals.

    In the factored mode the center's first products are computed once for each token, since all its experts share
    them, and on the way out the center is applied once, to the gated sum of the experts' neurons: what is left to do
    for every expert is the residual's small share. In the restored mode an expert is rebuilt when a token selects it
    (Algorithm 2 of the paper), and the `cache_experts` last used are kept.

    Parameters
    ----------
    center
        (B, p_I, p) common expert, one matrix for each of the B column blocks (see :func:`apart`), or None where the
        residuals are whole experts.
    residual
        What tells the experts apart.
    num_experts
        How many experts are stored.
    groups
        (N,) which of them stands for each expert that the router knows; None: each for itself.
    activation
        The network's activation function.
    dtype
        What experts are restored in.
    mode
        ``"factored"`` or ``"restored"``; the first where the residuals can be multiplied as they are stored.
    cache_experts
        Restored experts that are kept at once; an eighth of all, and at least two, if not given.

    References
    ----------
    ResMoE, Algorithm 2. With h_k the gated neurons of expert k, the output is
    ``sum_k (C_2 + R_2k) h_k = C_2 (sum_k h_k) + sum_k R_2k h_k``.
    """

    def __init__(
        self,
        center: Tensor | None,
        residual: Residual,
        *,
        num_experts: int,
        groups: Sequence[int] | None = None,
        activation: Callable[[Tensor], Tensor],
        dtype: torch.dtype = torch.float32,
        mode: Mode | None = None,
        cache_experts: int | None = None,
    ) -> None:
        if mode == "factored" and not residual.multiplies:
            raise UsageError(f"{type(residual).__name__} cannot be multiplied as it is stored: use the restored mode")
        super().__init__()
        if cache_experts is not None and cache_experts < 1:
            raise UsageError(f"a cache of {cache_experts} experts, expected at least 1")
        self.center = None if center is None else nn.Parameter(center, requires_grad=False)
        self.residual = residual
        self.num_experts = num_experts
        self.groups = None if groups is None else tuple(groups)
        self.activation = activation
        self.dtype = dtype
        self.mode: Mode = mode or ("factored" if residual.multiplies else "restored")
        self.cache_experts = cache_experts or max(2, num_experts // 8)
        self._restored: OrderedDict[int, Tensor] = OrderedDict()

    def forward(self, hidden: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Compute the weighted sum of the selected experts.

        Parameters
        ----------
        hidden
            (T, p) tokens.
        top_k_index
            (T, k) int64 experts of each token; an index of N or more stands for none.
        top_k_weights
            (T, k) weights.

        Returns
        -------
        torch.Tensor
            (T, p).
        """
        compute = self._factored if self.mode == "factored" else self._by_restored
        index, weights = self._stored(top_k_index, top_k_weights.to(hidden.dtype))
        return compute(hidden, index, weights)

    def restore(self, expert: int) -> Tensor:
        """Return the (p_I, D) restored expert."""
        matrix = self._empty()
        self.residual.restore(matrix, self.center, expert)
        return matrix

    def forget(self) -> None:
        """Drop the restored experts that are kept."""
        self._restored.clear()

    def restore_for(self, expert: int) -> Tensor:
        """Return the (p_I, D) matrix of one of the router's experts."""
        return self.restore(expert if self.groups is None else self.groups[expert])

    def _stored(self, index: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Name the stored experts; one that a token selects more than once is computed once, with all the weight."""
        if self.groups is None:
            return index, weights
        stored = torch.tensor([*self.groups, self.num_experts], device=index.device)
        index = stored[index.clamp(max=len(self.groups))]
        same = index[:, :, None] == index[:, None, :]
        first = same.int().argmax(dim=2) == torch.arange(index.shape[1], device=index.device)
        return torch.where(first, index, self.num_experts), (weights[:, None, :] * same).sum(dim=2)

    def _factored(self, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        if len(hidden) == 1 and self.residual.takes_vectors and not torch.is_grad_enabled():
            return self._one_token(hidden, index, weights)
        # Stored in 16 bits, it stays so in a model of 32, and is widened while it is used.
        center = None if self.center is None else self.center.to(hidden.dtype)
        common = None if center is None else [hidden @ matrix.T for matrix in center[:-1]]
        output = torch.zeros_like(hidden)
        gathered: Tensor | None = None
        for batch in batches(index, weights, num_experts=self.num_experts, most=self.residual.most_at_once):
            own = batch.take(hidden)
            products = None if common is None else [batch.take(product) for product in common]
            neurons = self._activate(self.residual.enter(batch.experts, own, products)) * batch.weights
            batch.give(self.residual.leave(batch.experts, neurons), output)
            if center is not None:
                gathered = neurons.new_zeros(len(hidden), neurons.shape[2]) if gathered is None else gathered
                batch.give(neurons, gathered)
        if gathered is not None and center is not None:
            output = output + (gathered @ center[-1]).to(output.dtype)
        return output

    def _one_token(self, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        """The same for a single token, vector by vector: starting a product costs as much as the product itself."""
        center = None if self.center is None else self.center.to(hidden.dtype)
        common = None if center is None else [torch.mv(matrix, hidden[0]) for matrix in center[:-1]]
        pairs = [(k, place) for place, k in enumerate(index[0].tolist()) if k < self.num_experts]
        output = torch.zeros_like(hidden[0])
        if pairs:
            experts, places = zip(*pairs, strict=True)
            products = self.residual.enter_vector(experts, hidden[0], common)
            neurons = self._activate(products) * weights[0, list(places), None]
            if center is not None:
                output.addmv_(center[-1].T, neurons.sum(dim=0))
            self.residual.leave_vector(experts, neurons, output)
        return output[None]

    def _activate(self, products: list[Tensor]) -> Tensor:
        first, *gate = products
        return self.activation(first) * gate[0] if gate else self.activation(first)

    def _by_restored(self, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        output, leaving = torch.zeros_like(hidden), self.residual.leaving
        selected = list(batches(index, weights, num_experts=self.num_experts, most=1))
        if not selected:
            return output
        # Tokens are put in the order of their experts once, and their shares are added up once.
        tokens = torch.cat([batch.tokens for batch in selected], dim=1)
        owned = hidden[tokens[0]].split([batch.tokens.shape[1] for batch in selected])
        waiting, given = zip(selected, owned, strict=True), list[Tensor]()
        # First as many as may be kept are restored, then they are multiplied: each has threads of its own, and those
        # of the one keep a processor busy for a while after their work, when the other needs it.
        while group := list(islice(waiting, self.cache_experts)):
            matrices = self._matrices([batch.experts.start for batch, _ in group])
            for (batch, own), matrix in zip(group, matrices, strict=True):
                entering = [own @ matrix[:, block.start : block.stop].T for block in self.residual.entering]
                neurons = self._activate(entering) * batch.weights[0]
                given.append(neurons @ matrix[:, leaving.start : leaving.stop])
        add_to_tokens(output, tokens, torch.cat(given))
        return output

    def _matrices(self, experts: Sequence[int]) -> list[Tensor]:
        """Restored experts, no more than may be kept at once; those that are there already stay."""
        for expert in experts:
            if expert in self._restored:
                self._restored.move_to_end(expert)
        missing = [expert for expert in experts if expert not in self._restored]
        fresh: list[Tensor] = []
        while len(fresh) < len(missing):
            fresh.append(self._room(len(fresh)))
        for matrix, expert in zip(fresh, missing, strict=True):
            self.residual.restore(matrix, self.center, expert)
        self._restored |= zip(missing, fresh, strict=True)
        return [self._restored[expert] for expert in experts]

    def _room(self, taken: int) -> Tensor:
        """A matrix to fill beside others, in the place of the one last used longest ago where no more are kept."""
        matrix: Tensor | None = None
        while len(self._restored) + taken >= self.cache_experts:
            _, matrix = self._restored.popitem(last=False)
        # Fresh memory costs as much as filling it; but a gradient may need the old one.
        return self._empty() if matrix is None or torch.is_grad_enabled() else matrix

    def _empty(self) -> Tensor:
        shape, device = (self.residual.num_neurons, self.residual.width), next(self.residual.parameters()).device
        with torch.inference_mode(False):  # what is filled again may be filled in another mode
            return torch.empty(shape, dtype=self.dtype, device=device)


def apart(center: Tensor, blocks: Sequence[Block]) -> Tensor:
    """Turn a (p_I, D) center into the (B, p_I, p) matrices of its column blocks, of which every row is contiguous."""
    return torch.stack([center[:, block.start : block.stop] for block in blocks])
