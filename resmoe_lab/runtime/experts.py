"""One compressed block of experts, with the signature of the fused experts of transformers 5."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._core.errors import UsageError
from ..store.encodings import Encoded
from ..store.formats import FORMATS, Format
from ..store.layout import Layout
from .batches import add_to_tokens, batches

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
        The stored (B p_I, p) rows of the center, those of its B column blocks one after another, or None where the
        stored experts are whole.
    stored
        The stored experts, or their residuals from the center.
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
        center: Encoded | None,
        stored: Format,
        *,
        activation: Callable[[Tensor], Tensor],
        dtype: torch.dtype = torch.float32,
        mode: Mode | None = None,
        cache_experts: int | None = None,
    ) -> None:
        if mode == "factored" and not stored.multiplies:
            raise UsageError(f"format {stored.name!r} cannot be multiplied as it is stored: use the restored mode")
        super().__init__()
        if cache_experts is not None and cache_experts < 1:
            raise UsageError(f"a cache of {cache_experts} experts, expected at least 1")
        self.center_encoding = None if center is None else center.encoding
        for name, part in _center_parts(center, len(stored.layout.blocks)).items():
            self.register_parameter(name, None if part is None else nn.Parameter(part, requires_grad=False))
        # Version 0.1.0 called it so, and the names of stored tensors begin with it.
        self.residual = stored
        self.activation = activation
        self.dtype = dtype
        self.mode: Mode = mode or ("factored" if stored.multiplies else "restored")
        self.cache_experts = cache_experts or max(2, self.num_experts // 8)
        self._restored: OrderedDict[int, Tensor] = OrderedDict()
        self._decoded_center: Tensor | None = None

    @classmethod
    def empty(cls, layout: Layout, **options: Any) -> ResMoEExperts:
        """Make a block with tensors of the right shapes and no contents, on the current device."""
        center = None
        if layout.center is not None:
            center = Encoded(layout.center, {name: spec.empty() for name, spec in layout.center_tensors().items()})
        return cls(center, FORMATS[layout.format].empty(layout), **options)

    @property
    def layout(self) -> Layout:
        """How it is stored."""
        return self.residual.layout

    @property
    def num_experts(self) -> int:
        """How many experts are stored."""
        return self.layout.num_stored

    @property
    def groups(self) -> tuple[int, ...] | None:
        """(N,) which stored expert stands for each one that the router knows; None: each for itself."""
        return self.layout.groups

    def stored_center(self) -> Encoded | None:
        """Return the stored (B p_I, p) rows of the center; None where there is none."""
        if self.center_encoding is None:
            return None
        parts: dict[str, Tensor] = {
            _part_name(name): part for name, part in self._parameters.items() if part is not None
        }
        if self.center_encoding.encoder.by_rows:
            parts = {name: part.flatten(0, 1) for name, part in parts.items()}
        return Encoded(self.center_encoding, parts, self.layout.columns[0].stop)

    def read_center(self, dtype: torch.dtype | None = None) -> Tensor | None:
        """Return the (B, p_I, p) center as floats, by default of the stored type; None where there is none."""
        stored = self.stored_center()
        if stored is None:
            return None
        if not stored.encoding.encoder.by_rows:
            return self._decode_center(stored, dtype or self.dtype)
        if dtype is None:
            dtype = stored.data.dtype if stored.data.is_floating_point() else self.dtype
        return stored.decode(dtype).unflatten(0, (len(self.layout.blocks), -1))

    def _decode_center(self, stored: Encoded, dtype: torch.dtype) -> Tensor:
        """Decode a center that cannot be read by rows, and keep it: it is one matrix for all experts."""
        kept = self._decoded_center
        if kept is None or kept.dtype != dtype or kept.device != stored.data.device:
            blocks = len(self.layout.blocks)
            shape = self.layout.neurons, self.layout.width
            matrix = stored.encoding.encoder.decode_matrix(stored.encoding, stored.parts, shape, dtype)
            kept = self._decoded_center = matrix.unflatten(1, (blocks, -1)).transpose(0, 1).contiguous()
        return kept

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
        self.residual.restore(matrix, self.read_center(), expert)
        return matrix

    def clear_cache(self) -> None:
        """Drop the restored experts, and a decoded center, that are kept."""
        self._restored.clear()
        self._decoded_center = None

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
        center = self.read_center(hidden.dtype)
        shared = None if center is None else [hidden @ matrix.T for matrix in center[:-1]]
        output = torch.zeros_like(hidden)
        gathered: Tensor | None = None
        for batch in batches(index, weights, num_experts=self.num_experts, max_experts=self.residual.max_batch_experts):
            tokens = batch.gather(hidden)
            products = None if shared is None else [batch.gather(product) for product in shared]
            neurons = self._activate(self.residual.project_in(batch.experts, tokens, products)) * batch.weights
            batch.scatter_add(self.residual.project_out(batch.experts, neurons), output)
            if center is not None:
                gathered = neurons.new_zeros(len(hidden), neurons.shape[2]) if gathered is None else gathered
                batch.scatter_add(neurons, gathered)
        if gathered is not None and center is not None:
            output = output + (gathered @ center[-1]).to(output.dtype)
        return output

    def _one_token(self, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        """The same for a single token, vector by vector: starting a product costs as much as the product itself."""
        center = self.read_center(hidden.dtype)
        shared = None if center is None else [torch.mv(matrix, hidden[0]) for matrix in center[:-1]]
        pairs = [(k, place) for place, k in enumerate(index[0].tolist()) if k < self.num_experts]
        output = torch.zeros_like(hidden[0])
        if pairs:
            experts, places = zip(*pairs, strict=True)
            products = self.residual.project_in_token(experts, hidden[0], shared)
            neurons = self._activate(products) * weights[0, list(places), None]
            if center is not None:
                output.addmv_(center[-1].T, neurons.sum(dim=0))
            self.residual.project_out_token(experts, neurons, output)
        return output[None]

    def _activate(self, products: list[Tensor]) -> Tensor:
        first, *gate = products
        return self.activation(first) * gate[0] if gate else self.activation(first)

    def _by_restored(self, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        output, out_block = torch.zeros_like(hidden), self.residual.out_block
        selected = list(batches(index, weights, num_experts=self.num_experts, max_experts=1))
        if not selected:
            return output
        # Tokens are put in the order of their experts once, and their shares are added up once.
        tokens = torch.cat([batch.tokens for batch in selected], dim=1)
        inputs = hidden[tokens[0]].split([batch.tokens.shape[1] for batch in selected])
        remaining, outputs = zip(selected, inputs, strict=True), list[Tensor]()
        # First as many as may be kept are restored, then they are multiplied: each has threads of its own, and those
        # of the one keep a processor busy for a while after their work, when the other needs it.
        while group := list(islice(remaining, self.cache_experts)):
            matrices = self._matrices([batch.experts.start for batch, _ in group])
            for (batch, tokens_in), matrix in zip(group, matrices, strict=True):
                products = [tokens_in @ matrix[:, block.start : block.stop].T for block in self.residual.in_blocks]
                neurons = self._activate(products) * batch.weights[0]
                outputs.append(neurons @ matrix[:, out_block.start : out_block.stop])
        add_to_tokens(output, tokens, torch.cat(outputs))
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
        center = self.read_center() if missing else None
        for matrix, expert in zip(fresh, missing, strict=True):
            self.residual.restore(matrix, center, expert)
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


def _center_parts(center: Encoded | None, blocks: int) -> dict[str, Tensor | None]:
    """The parts of a stored center by the names of the parameters, as (blocks, rows, columns)."""
    if center is None:
        return {"center": None}
    names = {name: "center" if name == "data" else f"center_{name}" for name in center.parts}
    if not center.encoding.encoder.by_rows:
        return {names[name]: part for name, part in center.parts.items()}
    return {names[name]: part.unflatten(0, (blocks, -1)) for name, part in center.parts.items()}


def _part_name(parameter: str) -> str:
    """The part of the stored center that a parameter is."""
    return "data" if parameter == "center" else parameter.removeprefix("center_")
