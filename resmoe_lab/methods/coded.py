"""Every weight rounded to a multiple of a step and entropy-coded: of each expert, or of its residual from a center."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from .._core.errors import UsageError
from .._core.params import KEEP
from .._core.threads import map_parallel
from ..centers import Center, Statistics
from ..experts import ExpertStack, LayerShape
from ..store.coder import RateCurve, encode, quantize
from ..store.encodings import Encoded
from ..store.encodings.coded import encode_quantized
from ..store.formats.coded import CODED, CodedFormat
from ..store.layout import DEFAULT_STORAGE, Layout, Storage, shape_blocks, weight_blocks
from ..store.matrices import SymbolMatrix
from ._base import METHODS, Compressed, CompressedLayer, Measured, Method, storage_ledger

#: Values that a curve of rates is made of, and rows of an expert that they come from, at most.
_SAMPLE, _SAMPLE_ROWS = 1 << 21, 512
#: The step is moved until this share of the bytes, at least, is used.
_TOLERANCE, _TRIES = 0.995, 8
#: A center that leaves more than this share of the error is not worth what it takes to run.
_WORTHWHILE = 0.98
#: Steps of a center that are looked at, in steps of the residuals.
_CENTER_FACTORS = (0.18, 0.25, 0.35, 0.5, 0.71, 1.0, 1.41, 2.0)
#: Bytes of an expert beside its coded symbols: header, table, and the states of a stream.
_OVERHEAD, _STREAM_OVERHEAD, _STREAM_WEIGHTS = 120, 24, 1 << 19


@METHODS.register("coded", title="Coded", reference="entropy-constrained scalar quantization, rANS")
@METHODS.register(
    "resmoe-coded",
    title="ResMoE (coded)",
    reference="ResMoE, Algorithm 1, with entropy-coded residuals in place of pruned ones",
    uses_center=True,
)
class CodedMethod(Method):
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
        each, more = divmod(int(_budget(shape, keep)), shape.num_experts)
        return tuple(each + (k < more) for k in range(shape.num_experts))

    def layout(
        self, shape: LayerShape, keep: float, *, storage: Storage = DEFAULT_STORAGE, has_center: bool | None = None
    ) -> Layout:
        """Tell how such a layer will be stored: its bytes in all, however coding divides them."""
        KEEP.validate(keep)
        if storage.format not in (None, CodedFormat.name):
            raise UsageError(f"method {self.name!r} cannot be stored as {storage.format!r}, expected 'coded'")
        has_center = self.uses_center if has_center is None else has_center
        budget, size = int(_budget(shape, keep)), None
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
        plan = self._plan(self._curves(stack, center), _budget(stack.shape, keep))
        center = center if plan.uses_center else None
        matrices = (quantize(m.float().cpu().numpy(), plan.stops, plan.steps) for m in _matrices(stack, center))
        return Compressed(map(SymbolMatrix, matrices))

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
        center = self._used(center, statistics)
        curves = self._curves(stack, center)
        return self._compressed(stack, KEEP.validate(keep), center, storage=storage, curves=curves)

    def measure(
        self,
        stack: ExpertStack,
        keeps: Sequence[float],
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
        storage: Storage = DEFAULT_STORAGE,
    ) -> list[Measured]:
        """Return error and bytes of what is stored, at every keep; each is coded."""
        curves, measured = self._curves(stack, self._used(center, statistics)), list[Measured]()
        for keep in keeps:
            layer = self._compressed(stack, KEEP.validate(keep), center, storage=storage, curves=curves)
            measured.append(Measured(layer.approximation_error(stack), storage_ledger(layer).true_bytes))
        return measured

    def errors(
        self,
        stack: ExpertStack,
        keeps: Sequence[float],
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
        storage: Storage = DEFAULT_STORAGE,
    ) -> list[float]:
        """Return the errors alone."""
        return [point.error for point in self.measure(stack, keeps, center, statistics=statistics, storage=storage)]

    def _compressed(
        self, stack: ExpertStack, keep: float, center: Center | None, *, storage: Storage, curves: _Curves
    ) -> CompressedLayer:
        layout = self.layout(stack.shape, keep, storage=storage)
        layout = layout.model_copy(update={"blocks": weight_blocks(stack.blocks), "center": None})
        plan = self._plan(curves, _budget(stack.shape, keep))
        return self._fit(stack, keep, layout=layout, center=center if plan.uses_center else None, plan=plan)

    def _curves(self, stack: ExpertStack, center: Center | None) -> _Curves:
        """Look at the weights once: what any step will cost, without a center and with it."""
        scales = _scales(stack)
        alone = _Plan.make(stack, None, scales)
        if center is None or not center.stored:
            return alone, None
        return alone, _Plan.make(stack, center, scales)

    def _plan(self, curves: _Curves, budget: float) -> _Plan:
        """Choose the steps, and whether there is a center."""
        alone, together = curves
        if together is None or together.least_bytes > budget:
            return alone.fitted(budget, self.name)
        plans = [replace(together, center_factor=factor) for factor in _CENTER_FACTORS]
        best = min((plan.fitted(budget, self.name) for plan in plans), key=lambda plan: plan.error)
        alone = alone.fitted(budget, self.name)
        return best if best.error < _WORTHWHILE * alone.error else alone

    def _fit(
        self, stack: ExpertStack, keep: float, *, layout: Layout, center: Center | None, plan: _Plan
    ) -> CompressedLayer:
        """Code, and move the step until the bytes fit and are used."""
        budget, best = _budget(stack.shape, keep), None
        too_fine, fits = 0.0, float("inf")
        for _ in range(_TRIES):
            layer = self._coded(stack, keep, layout=layout, center=center, plan=plan)
            size = sum(layer.experts.counts) + sum(block.nbytes for block in layer.center_blocks)
            if size <= budget:
                best, fits = layer, plan.step
                if size >= _TOLERANCE * budget or plan.step <= plan.least_step:
                    break
            else:
                too_fine = plan.step
            plan = plan.moved(size, budget, too_fine, fits)
            if not too_fine < plan.step < fits:
                break
        if best is None:
            raise UsageError(
                f"method {self.name!r} does not fit into {budget:,.0f} bytes a layer: give more bits than {16 * keep:g}"
            )
        return best

    def _coded(
        self, stack: ExpertStack, keep: float, *, layout: Layout, center: Center | None, plan: _Plan
    ) -> CompressedLayer:
        blocks: tuple[Encoded, ...] = ()
        if center is not None:
            rounded = quantize(center.matrix.float().cpu().numpy(), plan.stops, plan.center_steps)
            blocks = (encode_quantized(rounded),)
            center = replace(center, matrix=torch.from_numpy(rounded.values).to(center.matrix))
        layout = layout.model_copy(update={"center": blocks[0].encoding if blocks else None})

        def coded(matrix: torch.Tensor) -> np.ndarray:
            return encode(quantize(matrix.float().cpu().numpy(), plan.stops, plan.steps))

        experts = CodedFormat.of_runs(map_parallel(coded, _matrices(stack, center)), layout)
        return CompressedLayer(
            method=self.name,
            keep=keep,
            shape=stack.shape,
            experts=experts,
            center=center,
            center_blocks=blocks,
            dtype=stack.weights.dtype,
        )


@dataclass(frozen=True)
class _Plan:
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
    def make(cls, stack: ExpertStack, center: Center | None, scales: tuple[float, ...]) -> _Plan:
        blocks = weight_blocks(stack.blocks)
        stops = tuple(stop for _, _, stop in blocks)
        factors = torch.cat(
            [torch.full((stop - start,), 1 / scale) for (_, start, stop), scale in zip(blocks, scales, strict=True)]
        )
        curve = RateCurve(_sample(stack, center, factors))
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

    def fitted(self, budget: float, name: str) -> _Plan:
        """Choose the least step that fits into so many bytes."""
        if self.least_bytes > budget:
            bits = 8 * self.least_bytes / (self.weights * self.shape.num_experts)
            raise UsageError(
                f"method {name!r} does not fit into {budget:,.0f} bytes a layer, expected at least {bits:.3g} bits a "
                "weight: give more bits"
            )
        low, high = self.least_step, max(self.least_step, 8 * self.curve.largest, 1e-12)
        if self.nbytes(low) <= budget:
            return replace(self, step=low)
        for _ in range(40):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if self.nbytes(middle) > budget else (low, middle)
        return replace(self, step=high)

    def with_error(self, error: float) -> _Plan:
        """Choose the step that leaves so much error."""
        low, high = self.least_step, max(self.least_step, 8 * self.curve.largest, 1e-12)
        for _ in range(40):
            middle = (low * high) ** 0.5
            low, high = (low, middle) if self.at(middle)[1] > error else (middle, high)
        return replace(self, step=low)

    def moved(self, size: int, budget: float, too_fine: float, fits: float) -> _Plan:
        """Choose the next step after one that gave `size` bytes: within the bracket, by what the curve was wrong."""
        aim = budget * (_TOLERANCE + 1) / 2 * self.nbytes(self.step) / size
        step = self.fitted(aim, "coded").step if aim > self.least_bytes else 1.5 * self.step
        if not too_fine < step < fits:
            finite = too_fine > 0 and fits < float("inf")
            step = (too_fine * fits) ** 0.5 if finite else self.step * (1.05 if too_fine else 0.95)
        return replace(self, step=max(step, self.least_step))


#: What is known of a layer before its step is chosen: without a center, and with it (None: there is none).
_Curves = tuple[_Plan, _Plan | None]


def center_saving(stack: ExpertStack, center: Center, *, bits: float = 2.0) -> float:
    """Return how many bits a weight a center saves a coded layer at the same error, its own bits paid.

    Parameters
    ----------
    stack
        The experts.
    center
        Their center.
    bits
        What the layer takes without it; the saving hardly depends on that where it is 2 or more.

    Returns
    -------
    float
        Below zero where the center costs more than it saves.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> stack = rl.load_stack(rl.open_checkpoint("mixtral-tiny"), layer=0)
    >>> 0.3 < center_saving(stack, rl.find_center(stack)) < 0.9
    True
    """
    method = METHODS["resmoe-coded"]()
    assert isinstance(method, CodedMethod)
    alone, together = method._curves(stack, center)
    if together is None:
        return 0.0
    plain = alone.fitted(_budget(stack.shape, bits / 16), method.name)
    plans = (replace(together, center_factor=factor).with_error(plain.error) for factor in _CENTER_FACTORS)
    weights = plain.weights * stack.num_experts
    return 8 * (plain.nbytes(plain.step) - min(plan.nbytes(plan.step) for plan in plans)) / weights


def _budget(shape: LayerShape, keep: float) -> float:
    """Bytes of the experts of a layer at a share of 16 bits."""
    return 2 * keep * shape.num_experts * shape.intermediate_size * shape.width


def _scales(stack: ExpertStack) -> tuple[float, ...]:
    """The root mean square of the entries of each weight matrix, over all experts; 1 where all are zero."""
    scales = []
    for _, start, stop in weight_blocks(stack.blocks):
        squares = [float(weights[:, start:stop].double().square().mean()) for weights in stack.weights]
        mean = float(np.mean(squares))
        if not np.isfinite(mean):
            raise UsageError("a weight is not finite (NaN or infinite), expected numbers: repair the checkpoint first")
        scales.append(mean**0.5 or 1.0)
    return tuple(scales)


def _matrices(stack: ExpertStack, center: Center | None) -> Iterator[torch.Tensor]:
    return iter(stack.weights) if center is None else center.residuals(stack)


def _sample(stack: ExpertStack, center: Center | None, factors: torch.Tensor) -> np.ndarray:
    """Entries of every expert, or of its residual, that stand for all, in units of their matrix's scale."""
    rows = max(1, min(_SAMPLE_ROWS, _SAMPLE // (stack.num_experts * stack.shape.width)))
    every = max(1, stack.intermediate_size // rows)
    parts = []
    for k, weights in enumerate(stack.weights):
        index = torch.arange(k % every, stack.intermediate_size, every)
        order = index if center is None else center.permutations[k][index].to(index.device)
        part = weights[order.to(weights.device)].float().cpu()
        if center is not None:
            part = part - center.expert(k)[index.to(center.matrix.device)].float().cpu()
        parts.append(part * factors)
    return torch.cat(parts).numpy()
