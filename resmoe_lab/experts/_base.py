"""What a model family declares, and everything that follows from it.

A family is described by where its experts' parts lie, on disk and in a running model; reading, splitting for the
writer and moving between a model and an :class:`~._stack.ExpertStack` all follow from that description.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch

from .._core.errors import CheckpointError, UsageError, WeightError
from .._core.registry import Registry
from ..checkpoint import Checkpoint
from ..checkpoint.reader import read_tensors
from ._layout import FUSED_PARTS, Part, Shape, blocks_of, config_int, copy_block
from ._stack import Block, ExpertStack, LayerShape

#: What experts can be stored as; anything else is a quantized form that has no design matrix.
_READABLE = ("F64", "F32", "F16", "BF16")


class Family:
    """One model family: subclass it, fill in the class variables, register it.

    Parameters
    ----------
    config
        The checkpoint's config.

    Attributes
    ----------
    name
        The family's name.
    model_types
        The ``model_type`` values of configs that belong to it.
    block
        Tensor-name prefix of an MoE block on disk, with ``{layer}``.
    parts
        An expert's matrices below it, in the order of the design matrix's columns.
    router
        Tensor name of the router's weight (N, p) below it.
    others
        Pattern of the other tensors that may stand in a block with experts (shared experts, biases of routers).
    dense
        Pattern of the tensors of a layer that has no experts.
    module
        Name of the MoE block in a running transformers model, with ``{layer}``.
    module_parts
        An expert's matrices below the block's ``experts``.
    module_router
        Name of the router module below the block; its ``weight`` is the router's.
    routes_by_mask
        Whether the block passes its experts a (T, 1, N) mask instead of the (T, top_k) indices of the selected experts.
    """

    name: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    block: ClassVar[str] = "model.layers.{layer}.mlp"
    parts: ClassVar[tuple[Part, ...]]
    router: ClassVar[str] = "gate.weight"
    others: ClassVar[str] = r"(?!)"
    dense: ClassVar[str] = r"(?!)"
    module: ClassVar[str] = "model.layers.{layer}.mlp"
    module_parts: ClassVar[tuple[Part, ...]] = FUSED_PARTS
    module_router: ClassVar[str] = "gate"
    routes_by_mask: ClassVar[bool] = False

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """Read the sizes from a config."""
        raise NotImplementedError

    def layer_shape(self) -> LayerShape:
        """The sizes of a layer's experts, from the config."""
        shape = self.shape(self.config)
        return LayerShape.of(shape.num_experts, shape.intermediate_size, self.blocks(shape.hidden_size))

    # -- on disk ---------------------------------------------------------------------------------------------

    def prefix(self, layer: int) -> str:
        """Tensor-name prefix of a layer's MoE block."""
        return self.block.format(layer=layer)

    def locate(self, name: str) -> tuple[int, str] | None:
        """Layer and remaining name of a tensor that stands in the place of an MoE block (None: it does not)."""
        match = re.fullmatch(re.escape(self.block).replace(r"\{layer\}", r"(\d+)") + r"\.(.+)", name)
        return (int(match[1]), match[2]) if match else None

    def layers(self, checkpoint: Checkpoint) -> list[int]:
        """Numbers of the layers that have experts, in order.

        Layers beyond the config's number of layers (for multi-token prediction) are left alone.

        Raises
        ------
        CheckpointError
            If there is none, they are packed, or a tensor below an MoE block is not known to the family.
        """
        if checkpoint.packed:
            raise CheckpointError(f"{checkpoint.folder} is packed, expected whole experts: use the original checkpoint")
        blocks: dict[int, list[str]] = defaultdict(list)
        for name in checkpoint.tensors:
            if place := self.locate(name):
                blocks[place[0]].append(place[1])
        last = self._num_layers()
        layers = [layer for layer in sorted(blocks) if layer < last and self._has_experts(layer, blocks[layer])]
        if not layers:
            raise CheckpointError(
                f"{checkpoint.folder} has no MoE layer: expected tensors such as {self._key(0, self.parts[0], 0)!r}"
            )
        return layers

    def check_layers(self, checkpoint: Checkpoint, layers: Sequence[int]) -> None:
        """Check that layers are there and have experts.

        Raises
        ------
        UsageError
            If one does not, or none is named.
        """
        available = self.layers(checkpoint)
        if missing := [layer for layer in layers if layer not in available]:
            raise UsageError(f"layer {missing[0]} has no experts, expected one of {available}")
        if not layers:
            raise UsageError(f"no layer is named, expected some of {available}")

    def _num_layers(self) -> int:
        return config_int(self.config, "num_hidden_layers")

    def _has_experts(self, layer: int, names: list[str]) -> bool:
        """Whether a block's tensors are those of experts; a tensor that is neither theirs nor known is an error."""
        expert_key = re.compile("|".join(re.escape(part.key).replace(r"\{k\}", r"(\d+)") for part in self.parts))
        count = self.shape(self.config).num_experts
        experts, rest = 0, []
        for name in names:
            match = expert_key.fullmatch(name)
            if match and int(match[match.lastindex] if match.lastindex else 0) < count:
                experts += 1
            else:
                rest.append(name)
        known = re.compile(f"{re.escape(self.router)}|{self.others}" if experts else self.dense)
        for name in rest:
            if not known.fullmatch(name):
                raise CheckpointError(
                    f"tensor {f'{self.prefix(layer)}.{name}'!r} stands in an MoE block but is unknown to family "
                    f"{self.name} with {count} experts: this layout is not supported"
                )
        return experts > 0

    def expert_keys(self, layer: int, num_experts: int) -> Iterator[str]:
        """Names of all stored expert tensors of a layer, each once."""
        yield from dict.fromkeys(self._key(layer, part) for part in self.parts if part.fused)
        separate = [part for part in self.parts if not part.fused]
        yield from (self._key(layer, part, k) for k in range(num_experts if separate else 0) for part in separate)

    def router_key(self, layer: int) -> str:
        """Name of the stored (N, p) weight of a layer's router."""
        return f"{self.prefix(layer)}.{self.router}"

    def expert_bytes(self, checkpoint: Checkpoint, layer: int) -> int:
        """Stored bytes of a layer's experts.

        Raises
        ------
        CheckpointError, WeightError
            If a tensor is missing or has a shape that the config does not say.
        """
        shape = self._check_sizes(checkpoint, layer)
        return sum(checkpoint.tensors[key].nbytes for key in self.expert_keys(layer, shape.num_experts))

    def _key(self, layer: int, part: Part, expert: int | None = None) -> str:
        return f"{self.prefix(layer)}.{part.key.format(k=expert)}"

    def _check_sizes(self, checkpoint: Checkpoint, layer: int) -> Shape:
        shape = self.shape(checkpoint.config)
        for k in range(shape.num_experts):
            for part in self.parts:
                name, expected = self._key(layer, part, k), part.stored_shape(shape)
                if name not in checkpoint.tensors:
                    raise CheckpointError(
                        f"{checkpoint.folder} has no tensor {name!r}, though its config promises "
                        f"{shape.num_experts} experts: the checkpoint is incomplete"
                    )
                found = checkpoint.tensors[name]
                if found.shape != expected:
                    raise WeightError(f"tensor {name!r} has shape {found.shape}, expected {expected} by the config")
                if found.dtype not in _READABLE:
                    raise CheckpointError(
                        f"tensor {name!r} is stored as {found.dtype}, expected one of {', '.join(_READABLE)}: "
                        "use the checkpoint that is not quantized"
                    )
        return shape

    def load(
        self, checkpoint: Checkpoint, layer: int, *, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> ExpertStack:
        """Load one layer's experts as (N, p_I, D) design matrices.

        Parameters
        ----------
        checkpoint
            Where they are stored.
        layer
            The layer's number.
        device, dtype
            Where the stack goes, and as what.

        Raises
        ------
        UsageError
            If the layer has no experts or does not exist.
        WeightError
            If a stored shape is wrong or a weight is not finite.
        """
        self.check_layers(checkpoint, [layer])
        shape = self._check_sizes(checkpoint, layer)
        # Mapped from their files: the stack is the only copy of the layer in memory.
        stored = read_tensors(checkpoint, self.expert_keys(layer, shape.num_experts))
        stack = self._empty(layer, shape, dtype=dtype, device=device)
        _fill(stack, self.parts, lambda part, k: stored[self._key(layer, part, k)])
        return stack.checked()

    def first_block(self, checkpoint: Checkpoint, layer: int, expert: int) -> torch.Tensor:
        """Return one expert's first block (p_I, p) in float32: little to read, and enough to tell copies apart."""
        self._check_sizes(checkpoint, layer)
        key = self._key(layer, self.parts[0], expert)
        return self.parts[0].view(read_tensors(checkpoint, [key])[key], expert).float()

    def _empty(self, layer: int, shape: Shape, **options: Any) -> ExpertStack:
        blocks = self.blocks(shape.hidden_size)
        weights = torch.empty(shape.num_experts, shape.intermediate_size, blocks[-1].stop, **options)
        return ExpertStack(weights, blocks, layer)

    def blocks(self, hidden_size: int) -> tuple[Block, ...]:
        """Column ranges of the design matrix for hidden size p."""
        return blocks_of(self.parts, hidden_size)

    def split(self, stack: ExpertStack, *, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Return the stored tensors of a stack, under their names on disk."""
        shape = self.shape(self.config)
        tensors: dict[str, torch.Tensor] = {}
        for k in range(stack.num_experts):
            for part in self.parts:
                key = self._key(stack.layer, part, k)
                if key not in tensors:
                    tensors[key] = torch.empty(part.stored_shape(shape), dtype=dtype, device=stack.weights.device)
                copy_block(part.view(tensors[key], k), stack.block(part.block)[k])
        return tensors

    # -- in a running model ----------------------------------------------------------------------------------

    def module_name(self, layer: int) -> str:
        """Name of a layer's MoE block in a running transformers model."""
        return self.module.format(layer=layer)

    def experts_module(self, model: torch.nn.Module, layer: int) -> torch.nn.Module:
        """Return the module of a transformers model that holds a layer's experts."""
        return model.get_submodule(f"{self.module_name(layer)}.experts")

    def router_module(self, model: torch.nn.Module, layer: int) -> torch.nn.Module:
        """Return the module of a transformers model whose ``weight`` (N, p) routes a layer's tokens."""
        return model.get_submodule(f"{self.module_name(layer)}.{self.module_router}")

    def activation(self, module: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the activation function of an experts module that packed experts can replace.

        Raises
        ------
        UsageError
            If the module is called in another way, or computes something else than ``W2 (act(W1 x) * W3 x)``.
        """
        arguments = list(inspect.signature(module.forward).parameters)
        if arguments != ["hidden_states", "top_k_index", "top_k_weights"] or not hasattr(module, "act_fn"):
            raise not_packable(module)
        return module.act_fn  # type: ignore[return-value]

    def pull(self, model: torch.nn.Module, layer: int) -> ExpertStack:
        """Copy a layer's experts out of a transformers model as float32 design matrices."""
        module = self.experts_module(model, layer)
        first = _tensor(module, self.module_parts[0].key.format(k=0))
        stack = self._empty(layer, self.shape(self.config), device=first.device)
        _fill(stack, self.module_parts, lambda part, k: _tensor(module, part.key.format(k=k)))
        return stack

    def push(self, model: torch.nn.Module, stack: ExpertStack) -> None:
        """Put a stack's weights into a transformers model, in the model's own dtype and device."""
        module = self.experts_module(model, stack.layer)
        for k in range(stack.num_experts):
            for part in self.module_parts:
                copy_block(part.view(_tensor(module, part.key.format(k=k)), k), stack.block(part.block)[k])


def not_packable(module: torch.nn.Module) -> UsageError:
    """Return the error about an experts module whose computation packed experts do not implement."""
    return UsageError(f"{type(module).__name__} cannot be packed: export its restored experts instead (dense)")


def _fill(stack: ExpertStack, parts: tuple[Part, ...], tensor_of: Callable[[Part, int], torch.Tensor]) -> None:
    for k in range(stack.num_experts):
        for part in parts:
            copy_block(stack.block(part.block)[k], part.view(tensor_of(part, k), k))


def _tensor(module: torch.nn.Module, name: str) -> torch.Tensor:
    try:
        return module.get_parameter(name).data
    except AttributeError as error:
        raise CheckpointError(
            f"{type(module).__name__} has no {name!r}, expected transformers 5's layout: upgrade transformers"
        ) from error


FAMILIES: Registry[type[Family]] = Registry("model family", "resmoe_lab.experts")
