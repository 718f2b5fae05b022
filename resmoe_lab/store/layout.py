"""The layout of a stored layer: everything that it takes to build its module, but the tensors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from .._core.errors import CheckpointError, ResmoeError, UsageError
from ..experts import Block, LayerShape
from .encodings import BF16, FP32, Encoding, TensorSpec

#: How many weights may share a scale.
GROUPS = range(16, 257)
#: Names of the fields in version 0.1.0, and what they are called now.
_RENAMED = {"form": "format", "values": "encoding"}


class Storage(BaseModel):
    """How the compressed form of a layer is stored, chosen by the user.

    Parameters
    ----------
    encoding
        How values are stored: of experts, of residuals, or of their factors.
    center
        How the center's values are; if not given, the same floats, or 16 bits beside integers.
    format
        A name in the registry of formats; if not given, the smallest one that the method's matrices fit into.
    group
        Weights that share a scale, from 16 to 256, for the methods that round weights in groups; 64 if not given.

    Raises
    ------
    UsageError
        If a group is smaller or larger.

    Examples
    --------
    >>> Storage(encoding="int8").center_encoding.name
    'bf16'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoding: Encoding = BF16
    center: Encoding | None = None
    format: str | None = None
    group: int | None = None

    @model_validator(mode="after")
    def _possible_group(self) -> Self:
        if self.group is not None and not GROUPS[0] <= self.group <= GROUPS[-1]:
            raise UsageError(f"groups of {self.group} weights, expected {GROUPS[0]} to {GROUPS[-1]}")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_chosen(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a group that is not given, as every version before there were groups did."""
        content: dict[str, Any] = handler(self)
        if self.group is None:
            content.pop("group", None)
        return content

    @property
    def center_encoding(self) -> Encoding:
        """How the center's values are stored."""
        return self.encoding.beside if self.center is None else self.center


#: Sixteen bits, in the smallest format.
DEFAULT_STORAGE = Storage()
#: Every value as it was computed: errors of these are those of the method alone.
EXACT_STORAGE = Storage(encoding=FP32)


class Layout(BaseModel):
    """How the experts of one layer are stored.

    Parameters
    ----------
    format
        A name in the registry of formats.
    encoding, center
        How the values are stored, and those of the center (None: there is no center).
    blocks
        Name, start and stop of each column block of the design matrix.
    neurons
        p_I.
    counts
        For each stored expert its rank, rows or values, whichever the format has.
    groups
        Which stored expert stands for each of the router's; None: each for itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str
    encoding: Encoding
    center: Encoding | None = None
    blocks: tuple[tuple[str, int, int], ...]
    neurons: PositiveInt
    counts: tuple[int, ...]
    groups: tuple[int, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_version_1(cls, content: Any) -> Any:
        """Read what version 0.1.0 wrote: a ``form``, its ``values``, and whether there is a center."""
        if not isinstance(content, dict) or "form" not in content:
            return content
        layout = {_RENAMED.get(name, name): value for name, value in content.items()}
        if isinstance(layout.get("center"), bool):
            layout["center"] = Encoding.parse(layout["encoding"]).beside if layout["center"] else None
        return layout

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ends = [0, *(stop for _, _, stop in self.blocks)]
        if len(self.blocks) < 2 or [start for _, start, _ in self.blocks] != ends[:-1] or sorted(set(ends)) != ends:
            raise ValueError(f"blocks {self.blocks}, expected at least two, side by side")
        if not self.counts or min(self.counts) < 0:
            raise ValueError(f"counts {self.counts}, expected one that is not negative for each stored expert")
        if self.groups is not None and not all(0 <= group < len(self.counts) for group in self.groups):
            raise ValueError(f"groups {self.groups}, expected numbers of {len(self.counts)} stored experts")
        return self

    @classmethod
    def read(cls, content: Any, *, where: str) -> Layout:
        """Check a layout that comes from a file.

        Parameters
        ----------
        content
            What JSON has of it, of this version or of 0.1.0.
        where
            What it describes, for the message.

        Raises
        ------
        CheckpointError
            If it is not one.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "it"
            reason = f"{place}: {first['msg']}"
        except ResmoeError as error:
            reason = str(error)
        raise CheckpointError(f"the specification of {where} is damaged: {reason}")

    @property
    def columns(self) -> list[Block]:
        """The column blocks; the last one leaves the hidden layer, the others enter it."""
        return [Block(*block) for block in self.blocks]

    @property
    def width(self) -> int:
        """D."""
        return self.blocks[-1][2]

    def center_tensors(self) -> dict[str, TensorSpec]:
        """Return shape and dtype of every part of the stored center, whose column blocks stand below one another."""
        if self.center is None:
            return {}
        rows, width = len(self.blocks) * self.neurons, self.columns[0].stop
        return self.center.encoder.specs(self.center, rows, width)

    @property
    def center_bytes(self) -> int:
        """Bytes of the stored center; its column blocks may be of different widths where they carry biases."""
        center = self.center
        if center is None:
            return 0
        if not center.encoder.by_rows:
            return sum(spec.nbytes for spec in self.center_tensors().values())
        widths = [block.stop - block.start for block in self.columns]
        specs = [center.encoder.specs(center, self.neurons, width) for width in widths]
        return sum(spec.nbytes for parts in specs for spec in parts.values())

    @property
    def num_stored(self) -> int:
        """How many experts are stored, however many the router knows."""
        return len(self.counts)

    @property
    def num_experts(self) -> int:
        """N, the experts that the router knows."""
        return self.num_stored if self.groups is None else len(self.groups)


def weight_blocks(blocks: Sequence[Block]) -> tuple[tuple[str, int, int], ...]:
    """Return the column blocks of the weight matrices, a bias joined to the matrix before it."""
    starts = [block for block in blocks if block.name.startswith("w")]
    stops = [*(block.start for block in starts[1:]), blocks[-1].stop]
    return tuple((block.name, block.start, stop) for block, stop in zip(starts, stops, strict=True))


def shape_blocks(shape: LayerShape) -> tuple[tuple[str, int, int], ...]:
    """Return the column blocks of a layer of which only the sizes are known."""
    stops = list(accumulate(shape.widths))
    starts = [0, *stops[:-1]]
    return tuple((f"w{number}", *span) for number, span in enumerate(zip(starts, stops, strict=True), start=1))
