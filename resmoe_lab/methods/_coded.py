"""What coded methods share: steps that fit into a budget of bytes, and a center where it pays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import numpy as np
import torch

from .._core.errors import UsageError
from .._core.params import KEEP
from .._core.threads import map_parallel
from ..centers import Center, Statistics
from ..experts import ExpertStack, LayerShape
from ..store.coder import QuantizedValues, encode, quantize
from ..store.encodings import Encoded
from ..store.encodings.coded import encode_quantized
from ..store.formats.coded import CODED, CodedFormat
from ..store.layout import DEFAULT_STORAGE, Layout, Storage, shape_blocks, weight_blocks
from ..store.quantized_matrices import SymbolMatrix
from ._base import Method
from ._coding import TOLERANCE, CodingPlan, block_scales, byte_budget
from ._layer import Compressed, CompressedLayer

#: Times that a layer is coded until its bytes fit and are used.
_TRIES = 8
#: A center that leaves more than this share of the error is not worth what it takes to run. Nor is it sure to help:
#: what its rounding loses is the same in all experts, and on `switch-tiny` 0.97 of the error was 1.4 times the loss.
_WORTHWHILE = 0.9
#: Steps of a center that are looked at, in steps of the residuals.
CENTER_FACTORS = (0.18, 0.25, 0.35, 0.5, 0.71, 1.0, 1.41, 2.0)


@dataclass(frozen=True)
class _Look:
    """What is known of a layer before a step is chosen: plans without a center, and with it, and each expert's hint."""

    alone: CodingPlan
    together: CodingPlan | None
    hints: tuple[Any, ...]


class CodingMethod(Method):
    """Choose one step for the layer so that all its bytes fit into so many bits a weight, and code.

    Steps are in proportion to each weight matrix's own size, so that each loses the same share of its energy. The
    center has a step of its own: what its rounding loses is in every residual, which takes it up at high rates and
    leaves it at low ones, and its bits are paid once. Where the experts have too little in common for a center to pay
    for itself, none is stored.
    """

    matrix_type = SymbolMatrix
    by_bits = True
    may_drop_center = True
    variable_size = True

    def counts(self, shape: LayerShape, keep: float) -> tuple[int, ...]:
        """Return the bytes of each coded expert if all have the same; coding tells how many they are."""
        each, more = divmod(int(byte_budget(shape, keep)), shape.num_experts)
        return tuple(each + (k < more) for k in range(shape.num_experts))

    def layout(
        self, shape: LayerShape, keep: float, *, storage: Storage = DEFAULT_STORAGE, has_center: bool | None = None
    ) -> Layout:
        """Tell how such a layer will be stored: its bytes in all, however coding divides them."""
        KEEP.validate(keep)
        if storage.format not in (None, CodedFormat.name):
            raise UsageError(f"method {self.name!r} cannot be stored as {storage.format!r}, expected 'coded'")
        has_center = self.uses_center if has_center is None else has_center
        budget, size = int(byte_budget(shape, keep)), None
        counts = self.counts(shape, keep)
        if has_center:
            counts = (budget // (1 + shape.num_experts),) * shape.num_experts
            size = budget - sum(counts)
        return Layout.model_construct(
            format=CodedFormat.name,
            encoding=CODED,
            center=CODED.model_copy(update={"size": size}) if has_center else None,
            blocks=shape_blocks(shape),
            neurons=shape.intermediate_size,
            counts=counts,
            groups=None,
        )

    def compress_exact(
        self, stack: ExpertStack, keep: float, center: Center | None, statistics: Statistics | None
    ) -> Compressed:
        """Round experts, or their residuals, at the step that fits; see :meth:`compress` for what is stored."""
        look = self.look(stack, center, statistics)
        plan = self._plan(look, byte_budget(stack.shape, keep))
        pairs = self._pairs(stack, center if plan.uses_center else None, look.hints)
        return Compressed(SymbolMatrix(self.round_matrix(matrix, plan, hint)) for matrix, hint in pairs)

    def round_matrix(self, matrix: torch.Tensor, plan: CodingPlan, hint: Any) -> QuantizedValues:
        """Round one (p_I, D) matrix at the plan's steps; `hint` is what :meth:`hints` gave for its expert."""
        return quantize(matrix.float().cpu().numpy(), plan.stops, plan.steps)

    def hints(self, stack: ExpertStack, statistics: Statistics | None) -> Iterator[Any]:
        """Yield what the method knows of each expert beside its weights: nothing, unless a method says otherwise."""
        return repeat(None, stack.num_experts)

    def aligned_hint(self, hint: Any, order: torch.Tensor) -> Any:
        """Return a hint for an expert whose rows stand in another order; one that has nothing by rows stays."""
        return hint

    def _pairs(
        self, stack: ExpertStack, center: Center | None, hints: Sequence[Any]
    ) -> Iterator[tuple[torch.Tensor, Any]]:
        """Yield what is rounded of each expert, itself or its residual, and its hint."""
        if center is None:
            yield from zip(stack.weights, hints, strict=True)
            return
        for matrix, hint, order in zip(center.residuals(stack), hints, center.permutations, strict=True):
            yield matrix, self.aligned_hint(hint, order)

    def compress(
        self,
        stack: ExpertStack,
        keep: float,
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
        storage: Storage = DEFAULT_STORAGE,
    ) -> CompressedLayer:
        """Compress the experts of a layer to no more than ``16 * keep`` bits a weight, center and tables included.

        Parameters
        ----------
        stack, keep, center, statistics, storage
            As for :meth:`Method.compress`.

        Raises
        ------
        UsageError
            If `keep` is out of range, there is no center where the method needs one, a weight is not finite, or so few
            bytes do not hold even the headers.
        """
        [layer] = self.compress_each(stack, [keep], center, statistics=statistics, storage=storage)
        return layer

    def compress_each(
        self,
        stack: ExpertStack,
        keeps: Sequence[float],
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
        storage: Storage = DEFAULT_STORAGE,
    ) -> Iterator[CompressedLayer]:
        """Compress to every keep's bits, with one look at the weights for all."""
        center = self._used(center, statistics)
        look = self.look(stack, center, statistics)
        for keep in keeps:
            layout = self.layout(stack.shape, keep, storage=storage)
            layout = layout.model_copy(update={"blocks": weight_blocks(stack.blocks), "center": None})
            plan = self._plan(look, byte_budget(stack.shape, keep))
            used = center if plan.uses_center else None
            yield self._fit(stack, keep, layout=layout, center=used, plan=plan, hints=look.hints)

    def look(self, stack: ExpertStack, center: Center | None, statistics: Statistics | None) -> _Look:
        """Look at the weights once: what any step will cost, without a center and with it."""
        scales = block_scales(stack)
        alone, together = CodingPlan.make(stack, None, scales), None
        if center is not None and center.stored:
            together = CodingPlan.make(stack, center, scales)
        return _Look(alone, together, tuple(self.hints(stack, statistics)))

    def _plan(self, look: _Look, budget: float) -> CodingPlan:
        """Choose the steps, and whether there is a center."""
        alone, together = look.alone, look.together
        if together is None or together.least_bytes > budget:
            return alone.fitted(budget, self.name)
        plans = [replace(together, center_factor=factor) for factor in CENTER_FACTORS]
        best = min((plan.fitted(budget, self.name) for plan in plans), key=lambda plan: plan.error)
        alone = alone.fitted(budget, self.name)
        return best if best.error < _WORTHWHILE * alone.error else alone

    def _fit(
        self,
        stack: ExpertStack,
        keep: float,
        *,
        layout: Layout,
        center: Center | None,
        plan: CodingPlan,
        hints: Sequence[Any],
    ) -> CompressedLayer:
        """Code, and move the step until the bytes fit and are used."""
        budget, best = byte_budget(stack.shape, keep), None
        too_fine, fits = 0.0, float("inf")
        before: tuple[float, int] | None = None
        for _ in range(_TRIES):
            layer = self._coded(stack, keep, layout=layout, center=center, plan=plan, hints=hints)
            size = sum(layer.experts.counts) + sum(block.nbytes for block in layer.center_blocks)
            if size <= budget:
                best, fits = layer, plan.step
                if size >= TOLERANCE * budget or plan.step <= plan.least_step:
                    break
            else:
                too_fine = plan.step
            del layer  # unless it is the best: the next has a center of its own
            steepness = math.log(before[1] / size) / math.log(plan.step / before[0]) if before else None
            before = (plan.step, size)
            plan = plan.moved(size, budget, too_fine, fits, steepness=steepness)
            if not too_fine < plan.step < fits:
                break
        if best is None:
            raise UsageError(
                f"method {self.name!r} does not fit into {budget:,.0f} bytes a layer: give more bits than {16 * keep:g}"
            )
        return best

    def _coded(
        self,
        stack: ExpertStack,
        keep: float,
        *,
        layout: Layout,
        center: Center | None,
        plan: CodingPlan,
        hints: Sequence[Any],
    ) -> CompressedLayer:
        blocks: tuple[Encoded, ...] = ()
        if center is not None:
            rounded = quantize(center.matrix.float().cpu().numpy(), plan.stops, plan.center_steps)
            blocks = (encode_quantized(rounded),)
            center = replace(center, matrix=torch.from_numpy(rounded.values).to(center.matrix))
        layout = layout.model_copy(update={"center": blocks[0].encoding if blocks else None})

        def coded(pair: tuple[torch.Tensor, Any]) -> np.ndarray:
            return encode(self.round_matrix(pair[0], plan, pair[1]))

        experts = CodedFormat.of_runs(map_parallel(coded, self._pairs(stack, center, hints)), layout)
        return CompressedLayer(
            method=self.name,
            keep=keep,
            shape=stack.shape,
            experts=experts,
            center=center,
            center_blocks=blocks,
            dtype=stack.weights.dtype,
        )
