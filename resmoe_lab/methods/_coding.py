"""The steps that a coded layer is rounded with: from curves of rates, before anything is coded."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from .._core.errors import UsageError
from ..centers import Center
from ..experts import ExpertStack, LayerShape
from ..store.coder import RateCurve, bisect_steps
from ..store.coder.quantizer import NOT_FINITE
from ..store.layout import weight_blocks

#: Values that a curve of rates is made of, and rows of an expert that they come from, at most.
_SAMPLE, _SAMPLE_ROWS = 1 << 21, 512
#: The step is moved until this share of the bytes, at least, is used.
TOLERANCE = 0.995
#: Bytes of an expert beside its coded symbols: header, table, and the states of a stream.
_OVERHEAD, _STREAM_OVERHEAD, _STREAM_WEIGHTS = 120, 24, 1 << 19


@dataclass(frozen=True)
class CodingPlan:
    """The step of a layer, what it is thought to cost, and the curves that tell.

    `scales` are the sizes of the weight matrices' entries; the step of a matrix is `step` times its scale.
    """

    shape: LayerShape
    stops: tuple[int, ...]
    scales: tuple[float, ...]
    curve: RateCurve
    center_curve: RateCurve | None
    center_factor: float = 1.0
    step: float = 1.0

    @classmethod
    def make(cls, stack: ExpertStack, center: Center | None, scales: tuple[float, ...]) -> CodingPlan:
        blocks = weight_blocks(stack.blocks)
        stops = tuple(stop for _, _, stop in blocks)
        factors = torch.cat(
            [torch.full((stop - start,), 1 / scale) for (_, start, stop), scale in zip(blocks, scales, strict=True)]
        )
        curve = RateCurve(sample_values(stack, center, factors))
        center_curve = None if center is None else RateCurve((center.matrix.cpu().float() * factors).numpy())
        return cls(stack.shape, stops, scales, curve, center_curve)

    @property
    def uses_center(self) -> bool:
        return self.center_curve is not None

    @property
    def weights(self) -> int:
        """Weights of an expert."""
        return self.shape.intermediate_size * self.shape.width

    @property
    def steps(self) -> list[float]:
        return [self.step * scale for scale in self.scales]

    @property
    def center_steps(self) -> list[float]:
        return [step * self.center_factor for step in self.steps]

    @property
    def least_bytes(self) -> float:
        matrices = self.shape.num_experts + self.uses_center
        return matrices * (_OVERHEAD + _STREAM_OVERHEAD * -(-self.weights // _STREAM_WEIGHTS))

    @property
    def least_step(self) -> float:
        """Symbols have eight bits: with smaller steps the largest values would be cut off."""
        return max(self.curve.largest / 127, 1e-12)

    @property
    def _step_range(self) -> tuple[float, float]:
        return self.least_step, max(self.least_step, 8 * self.curve.largest)

    def at(self, step: float) -> tuple[float, float]:
        """Bytes of the layer, and the mean squared error of a weight in units of its matrix's scale.

        What the rounded center has lost is added to the residuals: their curve is that of values as much larger.
        """
        bits, growth = 0.0, 1.0
        if self.center_curve is not None:
            bits, lost = self.center_curve.at(step * self.center_factor)
            energy = self.curve.energy / self.curve.count
            growth = (1 + lost / energy) ** 0.5 if energy else 1.0
        own_bits, error = self.curve.at(step / growth)
        bits = (bits + own_bits * self.shape.num_experts) * self.weights
        return bits / 8 + self.least_bytes, error * growth**2

    def nbytes(self, step: float) -> float:
        """Bytes of the layer at a step."""
        return self.at(step)[0]

    @property
    def error(self) -> float:
        """Mean squared error of a weight, in units of its matrix's scale."""
        return self.at(self.step)[1]

    def fitted(self, budget: float, name: str) -> CodingPlan:
        """Choose the least step that fits into so many bytes."""
        if self.least_bytes > budget:
            bits = 8 * self.least_bytes / (self.weights * self.shape.num_experts)
            raise UsageError(
                f"method {name!r} does not fit into {budget:,.0f} bytes a layer, expected at least {bits:.3g} bits a "
                "weight: give more bits"
            )
        if self.nbytes(self.least_step) <= budget:
            return replace(self, step=self.least_step)
        return replace(self, step=bisect_steps(*self._step_range, lambda step: self.nbytes(step) > budget)[1])

    def with_error(self, error: float) -> CodingPlan:
        """Choose the step that leaves so much error."""
        return replace(self, step=bisect_steps(*self._step_range, lambda step: self.at(step)[1] <= error)[0])

    def moved(
        self, size: int, budget: float, too_fine: float, fits: float, *, steepness: float | None = None
    ) -> CodingPlan:
        """Choose the next step after one that gave `size` bytes: within the bracket, by what the curve was wrong.

        The curve knows little of what error compensation has changed. Where two steps were tried, the next is the one
        that fits if bytes go on falling with the same `steepness`, between logarithms.
        """
        aim = budget * (TOLERANCE + 1) / 2
        if steepness is not None and steepness > 0:
            step = self.step * min(2.0, (size / aim) ** (1 / steepness))
        else:
            aim *= self.nbytes(self.step) / size
            step = self.fitted(aim, "coded").step if aim > self.least_bytes else 1.5 * self.step
        if not too_fine < step < fits:
            finite = too_fine > 0 and fits < float("inf")
            step = (too_fine * fits) ** 0.5 if finite else self.step * (1.05 if too_fine else 0.95)
        return replace(self, step=max(step, self.least_step))


def byte_budget(shape: LayerShape, keep: float) -> float:
    """Bytes of the experts of a layer at a share of 16 bits."""
    return 2 * keep * math.prod(shape.sizes)


def block_scales(stack: ExpertStack) -> tuple[float, ...]:
    """The root mean square of the entries of each weight matrix, over all experts; 1 where all are zero."""
    scales = []
    for _, start, stop in weight_blocks(stack.blocks):
        squares = [float(weights[:, start:stop].double().square().mean()) for weights in stack.weights]
        mean = float(np.mean(squares))
        if not np.isfinite(mean):
            raise UsageError(NOT_FINITE)
        scales.append(mean**0.5 or 1.0)
    return tuple(scales)


def sample_values(stack: ExpertStack, center: Center | None, factors: torch.Tensor) -> np.ndarray:
    """Entries of every expert, or of its residual, that stand for all, in units of their matrix's scale."""
    rows = max(1, min(_SAMPLE_ROWS, _SAMPLE // (stack.num_experts * stack.shape.width)))
    every = max(1, stack.intermediate_size // rows)
    taken = -(-stack.intermediate_size // every)
    values, filled = np.empty((stack.num_experts * taken, stack.shape.width), np.float32), 0
    for k, weights in enumerate(stack.weights):
        index = torch.arange(k % every, stack.intermediate_size, every)
        order = index if center is None else center.permutations[k][index].to(index.device)
        part = weights[order.to(weights.device)].float().cpu()
        if center is not None:
            part = part - center.expert(k)[index.to(center.matrix.device)].float().cpu()
        np.multiply(part.numpy(), factors.numpy(), out=values[filled : filled + len(part)])
        filled += len(part)
    return values[:filled]
