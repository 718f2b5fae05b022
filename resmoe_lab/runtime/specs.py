"""What a checkpoint's config says of a packed layer, and the empty module that its tensors are loaded into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError, model_validator
from torch import Tensor

from .._core.errors import CheckpointError
from ..experts import Block
from ..store.encoding import Encoded, center_type, value_type
from .experts import ResMoEExperts
from .lowrank import LowRankResidual
from .residuals import Residual, RowsResidual, WholeExperts
from .scattered import BitmaskResidual, CsrResidual

Form = Literal["bitmask", "csr16", "lowrank-joint", "lowrank-separate", "rows", "whole"]


class Spec(BaseModel):
    """Everything that it takes to build a packed layer's module, but its tensors.

    Parameters
    ----------
    form, values
        How the residuals are stored.
    blocks
        Name, start and stop of each column block of the design matrix.
    neurons
        p_I.
    counts
        For each stored expert its rank, rows or values, whichever the form has.
    groups
        Which stored expert stands for each of the router's; None: each for itself.
    center
        Whether there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Form
    values: Literal["fp32", "bf16", "fp16", "int8"]
    blocks: tuple[tuple[str, int, int], ...]
    neurons: PositiveInt
    counts: tuple[int, ...]
    groups: tuple[int, ...] | None = None
    center: bool

    @model_validator(mode="after")
    def _consistent(self) -> Spec:
        ends = [0, *(stop for _, _, stop in self.blocks)]
        if len(self.blocks) < 2 or [start for _, start, _ in self.blocks] != ends[:-1] or sorted(set(ends)) != ends:
            raise ValueError(f"blocks {self.blocks}, expected at least two, side by side")
        if not self.counts or min(self.counts) < 0:
            raise ValueError(f"counts {self.counts}, expected one that is not negative for each stored expert")
        if self.groups is not None and not all(0 <= group < len(self.counts) for group in self.groups):
            raise ValueError(f"groups {self.groups}, expected numbers of {len(self.counts)} stored experts")
        return self

    @property
    def columns(self) -> list[Block]:
        """The column blocks."""
        return [Block(*block) for block in self.blocks]

    @property
    def width(self) -> int:
        """D."""
        return self.blocks[-1][2]

    @property
    def center_dtype(self) -> torch.dtype:
        """What the center is stored as: 16 bits beside 8 bit residuals."""
        return center_type(self.values)


def read_spec(content: Any, *, where: str) -> Spec:
    """Check a specification that comes from a file.

    Raises
    ------
    CheckpointError
        If it is not one.
    """
    try:
        return Spec.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "it"
        raise CheckpointError(f"the specification of {where} is damaged: {place}: {first['msg']}") from error


def outline(spec: Spec, *, activation: Callable[[Tensor], Tensor], **options: Any) -> ResMoEExperts:
    """Build a packed layer's module with tensors of the right shapes and no contents, on the current device."""
    residual = _OUTLINES[spec.form](spec)
    blocks = spec.columns
    size = (len(blocks), spec.neurons, blocks[0].stop)
    center = torch.empty(size, dtype=spec.center_dtype) if spec.center else None
    return ResMoEExperts(
        center, residual, num_experts=len(spec.counts), groups=spec.groups, activation=activation, **options
    )


def _rows(rows: int, columns: int, values: str) -> Encoded:
    scale = torch.empty(rows, dtype=torch.bfloat16) if values == "int8" else None
    return Encoded(torch.empty(rows, columns, dtype=value_type(values)), scale)


def _low_rank(spec: Spec) -> Residual:
    total, blocks = sum(spec.counts), spec.columns
    pairs = 1 if spec.form == "lowrank-joint" else len(blocks)
    left = [_rows(total, spec.neurons, spec.values) for _ in range(pairs)]
    right = [_rows(total, block.stop - block.start, spec.values) for block in blocks]
    return LowRankResidual(blocks, left, right, ranks=spec.counts)


def _some_rows(spec: Spec) -> Residual:
    values = _rows(sum(spec.counts), spec.width, spec.values)
    neurons = torch.empty(sum(spec.counts), dtype=torch.int32)
    return RowsResidual(spec.columns, values, neurons, counts=spec.counts, num_neurons=spec.neurons)


def _whole(spec: Spec) -> Residual:
    return WholeExperts(spec.columns, _rows(sum(spec.counts), spec.width, spec.values), counts=spec.counts)


def _places(spec: Spec) -> Encoded:
    scale = torch.empty(len(spec.counts) * spec.neurons, dtype=torch.bfloat16) if spec.values == "int8" else None
    return Encoded(torch.empty(sum(spec.counts), dtype=value_type(spec.values)), scale)


def _bitmask(spec: Spec) -> Residual:
    bits = torch.empty(len(spec.counts), spec.neurons, -(-spec.width // 8), dtype=torch.uint8)
    return BitmaskResidual(spec.columns, _places(spec), bits, counts=spec.counts)


def _csr16(spec: Spec) -> Residual:
    starts = torch.empty(len(spec.counts), spec.neurons + 1, dtype=torch.int32)
    columns = torch.empty(sum(spec.counts), dtype=torch.uint16)
    return CsrResidual(spec.columns, _places(spec), starts, columns, counts=spec.counts)


_OUTLINES: dict[Form, Callable[[Spec], Residual]] = {
    "bitmask": _bitmask,
    "csr16": _csr16,
    "lowrank-joint": _low_rank,
    "lowrank-separate": _low_rank,
    "rows": _some_rows,
    "whole": _whole,
}
