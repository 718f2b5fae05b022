"""The base class of model families.

A family declares where its experts' matrices are, on disk and in a running model. Reading and writing an
:class:`~._stack.ExpertStack` follow from that declaration.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import ClassVar

import torch

from .._core.errors import CheckpointError, UsageError, WeightError
from .._core.registry import Registry
from ..checkpoint import Checkpoint
from ..checkpoint.codecs import CODECS
from ..checkpoint.reader import TensorReader
from ._layout import Part, Shape, config_int, copy_block
from ._running import RunningExperts, fill_stack
from ._stack import ExpertStack

#: The dtypes that experts can be read from; others are quantized.
_READABLE = ("F64", "F32", "F16", "BF16")


class Family(RunningExperts):
    """A model family: subclass it, set the class variables, and register it.

    Parameters
    ----------
    config
        The checkpoint's config.

    Attributes
    ----------
    name
        The family's name.
    model_types
        The ``model_type`` values of its configs.
    block
        Tensor-name prefix of an MoE block on disk, with ``{layer}``.
    parts
        An expert's matrices below it, in the order of the design matrix's columns.
    router
        Tensor name of the router's weight (N, p) below it.
    other_tensors
        Pattern of other tensor names in a block with experts (shared experts, biases of routers).
    dense_tensors
        Pattern of the tensor names in a block without experts.
    module, module_parts, module_router, routes_by_mask
        Where they are in a running model: see :class:`~._running.RunningExperts`.
    """

    name: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    block: ClassVar[str] = "model.layers.{layer}.mlp"
    router: ClassVar[str] = "gate.weight"
    other_tensors: ClassVar[str] = r"(?!)"
    dense_tensors: ClassVar[str] = r"(?!)"

    def prefix(self, layer: int) -> str:
        """Return the tensor-name prefix of a layer's MoE block."""
        return self.block.format(layer=layer)

    def locate(self, name: str) -> tuple[int, str] | None:
        """Return the layer and the remaining name of a tensor in an MoE block's place, None for other tensors."""
        match = self._block_pattern.fullmatch(name)
        return (int(match[1]), match[2]) if match else None

    @cached_property
    def _block_pattern(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.block).replace(r"\{layer\}", r"(\d+)") + r"\.(.+)")

    def layers(self, checkpoint: Checkpoint) -> list[int]:
        """Return the indices of the layers that have experts, in order.

        Layers beyond the config's number of layers (for multi-token prediction) are ignored.

        Raises
        ------
        CheckpointError
            If there is none, the checkpoint is packed, or a tensor in an MoE block is unknown to the family.
        """
        if checkpoint.packed:
            raise CheckpointError(f"{checkpoint.folder} is packed, expected dense experts: use the original checkpoint")
        blocks: dict[int, list[str]] = defaultdict(list)
        for name in checkpoint.tensors:
            if location := self.locate(name):
                layer, rest = location
                blocks[layer].append(rest)
        count = self._num_layers()
        layers = [layer for layer in sorted(blocks) if layer < count and self._has_experts(layer, blocks[layer])]
        if not layers:
            raise CheckpointError(
                f"{checkpoint.folder} has no MoE layer: expected tensors such as {self._key(0, self.parts[0], 0)!r}"
            )
        return layers

    def routed_layers(self, names: Iterable[str]) -> list[int]:
        """Return the layers that have a router among some tensor names, whose experts may be packed."""
        located = filter(None, map(self.locate, names))
        return sorted({layer for layer, rest in located if rest == self.router})

    def check_layers(self, checkpoint: Checkpoint, layers: Sequence[int]) -> None:
        """Check that layers exist and have experts.

        Raises
        ------
        UsageError
            If one does not, or `layers` is empty.
        """
        available = self.layers(checkpoint)
        if missing := [layer for layer in layers if layer not in available]:
            raise UsageError(f"layer {missing[0]} has no experts, expected one of {available}")
        if not layers:
            raise UsageError(f"no layer is given, expected some of {available}")

    def _num_layers(self) -> int:
        return config_int(self.config, "num_hidden_layers")

    def _has_experts(self, layer: int, names: list[str]) -> bool:
        """Whether a block has experts; a tensor that is neither theirs nor known is an error."""
        expert_key = re.compile("|".join(re.escape(part.key).replace(r"\{k\}", r"(\d+)") for part in self.parts))
        count = self.shape(self.config).num_experts
        experts, others = 0, []
        for name in names:
            match = expert_key.fullmatch(name)
            if match and int(match[match.lastindex] if match.lastindex else 0) < count:
                experts += 1
            else:
                others.append(name)
        sparse = experts > 0 or self.router in others
        allowed = re.compile(f"{re.escape(self.router)}|{self.other_tensors}" if sparse else self.dense_tensors)
        for name in others:
            if not allowed.fullmatch(name):
                raise CheckpointError(
                    f"tensor {f'{self.prefix(layer)}.{name}'!r} stands in an MoE block but is unknown to family "
                    f"{self.name} with {count} experts: this layout is not supported"
                )
        if sparse and not experts:
            raise CheckpointError(
                f"{self.prefix(layer)!r} has a router and no experts, expected tensors such as "
                f"{self._key(layer, self.parts[0], 0)!r}: copy the checkpoint again"
            )
        return experts > 0

    def expert_keys(self, layer: int, num_experts: int) -> Iterator[str]:
        """Yield the names of a layer's stored expert tensors, each once."""
        yield from dict.fromkeys(self._key(layer, part) for part in self.parts if part.fused)
        separate = [part for part in self.parts if not part.fused]
        yield from (self._key(layer, part, k) for k in range(num_experts if separate else 0) for part in separate)

    def router_key(self, layer: int) -> str:
        """Return the name of the stored (N, p) weight of a layer's router."""
        return f"{self.prefix(layer)}.{self.router}"

    def expert_bytes(self, checkpoint: Checkpoint, layer: int) -> int:
        """Return the stored bytes of a layer's experts.

        Raises
        ------
        CheckpointError, WeightError
            If a tensor is missing or its shape contradicts the config.
        """
        shape = self._checked_shape(checkpoint, layer)
        return sum(checkpoint.tensors[key].nbytes for key in self.expert_keys(layer, shape.num_experts))

    def _key(self, layer: int, part: Part, expert: int | None = None) -> str:
        return f"{self.prefix(layer)}.{part.key.format(k=expert)}"

    def _checked_shape(self, checkpoint: Checkpoint, layer: int) -> Shape:
        shape = self.shape(checkpoint.config)
        for k in range(shape.num_experts):
            for part in self.parts:
                name, expected = self._key(layer, part, k), part.stored_shape(shape)
                if name not in checkpoint.tensors:
                    raise CheckpointError(
                        f"{checkpoint.folder} has no tensor {name!r}, though its config promises "
                        f"{shape.num_experts} experts: the checkpoint is incomplete"
                    )
                info = checkpoint.tensors[name]
                if info.shape != expected:
                    raise WeightError(f"tensor {name!r} has shape {info.shape}, expected {expected} by the config")
                if info.dtype not in _READABLE:
                    raise CheckpointError(
                        f"tensor {name!r} is stored as {info.dtype}, expected one of {', '.join(_READABLE)} or an "
                        f"encoding with its scales ({', '.join(CODECS.names())}): use the unquantized checkpoint"
                    )
        return shape

    def load(
        self, checkpoint: Checkpoint, layer: int, *, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> ExpertStack:
        """Load one layer's experts as (N, p_I, D) design matrices.

        Parameters
        ----------
        checkpoint
            The checkpoint.
        layer
            The layer's index.
        device, dtype
            Device and dtype of the stack.

        Raises
        ------
        UsageError
            If the layer has no experts or does not exist.
        WeightError
            If a stored shape is wrong or a weight is not finite.
        """
        self.check_layers(checkpoint, [layer])
        shape = self._checked_shape(checkpoint, layer)
        # Tensors are memory-mapped, and decoded expert by expert: the stack is the only copy of the layer in memory.
        reader = TensorReader(checkpoint, self.expert_keys(layer, shape.num_experts))
        stack = self.empty_stack(layer, shape, dtype=dtype, device=device)
        fill_stack(stack, self.parts, lambda part, k: reader.read(self._key(layer, part, k), k if part.fused else None))
        return stack.checked()

    def first_block(self, checkpoint: Checkpoint, layer: int, expert: int) -> torch.Tensor:
        """Return one expert's first block (p_I, p) in float32, which is enough to detect near-duplicates."""
        self._checked_shape(checkpoint, layer)
        part = self.parts[0]
        key = self._key(layer, part, expert)
        return part.matrix(TensorReader(checkpoint, [key]).read(key, expert if part.fused else None)).float()

    def to_tensors(self, stack: ExpertStack, *, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Return a stack as the tensors that are stored, by their names on disk."""
        shape = self.shape(self.config)
        tensors: dict[str, torch.Tensor] = {}
        for k in range(stack.num_experts):
            for part in self.parts:
                key = self._key(stack.layer, part, k)
                if key not in tensors:
                    tensors[key] = torch.empty(part.stored_shape(shape), dtype=dtype, device=stack.weights.device)
                copy_block(part.view(tensors[key], k), stack.block(part.block)[k])
        return tensors


FAMILIES: Registry[type[Family]] = Registry("model family", "resmoe_lab.experts")
