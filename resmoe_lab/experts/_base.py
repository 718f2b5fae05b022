"""What a model family declares, and everything that follows from it.

A family is described by where its experts' parts are stored; reading, splitting for the writer and moving
between a running model and an :class:`~._stack.ExpertStack` all follow from that description.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from .._core.errors import CheckpointError, UsageError, WeightError
from .._core.registry import Registry
from ..checkpoint import Checkpoint
from ..checkpoint.reader import read_tensors
from ._stack import Block, ExpertStack


@dataclass(frozen=True)
class Part:
    """One stored matrix of an expert.

    Parameters
    ----------
    block
        Its name in the design matrix.
    key
        Its tensor name below the MoE block, with ``{k}`` for the expert.
    transposed
        True where columns, not rows, are neurons (the down-projection).
    """

    block: str
    key: str
    transposed: bool = False


@dataclass(frozen=True)
class Shape:
    """The sizes of a model's MoE layers, from its config.

    Parameters
    ----------
    num_experts, hidden_size, intermediate_size, top_k
        N, p, p_I and experts per token.
    """

    num_experts: int
    hidden_size: int
    intermediate_size: int
    top_k: int


class Family:
    """One model family: subclass it, fill in the class variables, register it.

    Attributes
    ----------
    name
        The family's name.
    model_types
        The ``model_type`` values of configs that belong to it.
    block
        Tensor-name prefix of an MoE block, with ``{layer}``.
    parts
        An expert's matrices, in the order of the design matrix's columns.
    others
        Pattern of the other tensors that may stand below an MoE block (routers, shared experts).
    """

    name: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    block: ClassVar[str]
    parts: ClassVar[tuple[Part, ...]]
    others: ClassVar[str]

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """Read the sizes from a config."""
        raise NotImplementedError

    def experts_module(self, model: torch.nn.Module, layer: int) -> torch.nn.Module:
        """Return the module of a transformers model that holds a layer's experts."""
        raise NotImplementedError

    # -- on disk ---------------------------------------------------------------------------------------------

    def layers(self, checkpoint: Checkpoint) -> list[int]:
        """Numbers of the layers that have experts, in order.

        Raises
        ------
        CheckpointError
            If there is none, or a tensor below an MoE block is not known to the family.
        """
        pattern = re.compile(re.escape(self.block).replace(r"\{layer\}", r"(\d+)") + r"\.(.+)")
        known = "|".join(re.escape(part.key).replace(r"\{k\}", r"\d+") for part in self.parts)
        expert_key, other_key = re.compile(known), re.compile(self.others)
        found = set()
        for name in checkpoint.tensors:
            if not (match := pattern.fullmatch(name)):
                continue
            if expert_key.fullmatch(match[2]):
                found.add(int(match[1]))
            elif not other_key.fullmatch(match[2]):
                raise CheckpointError(
                    f"tensor {name!r} stands in an MoE block but is unknown to family {self.name}: "
                    "this layout is not supported"
                )
        if not found:
            raise CheckpointError(
                f"{checkpoint.folder} has no MoE layer: expected tensors such as {self._key(0, 0, self.parts[0])!r}"
            )
        return sorted(found)

    def expert_keys(self, layer: int, num_experts: int) -> Iterator[str]:
        """Names of all stored expert tensors of a layer, expert by expert."""
        return (self._key(layer, k, part) for k in range(num_experts) for part in self.parts)

    def _key(self, layer: int, expert: int, part: Part) -> str:
        return f"{self.block.format(layer=layer)}.{part.key.format(k=expert)}"

    def _check_sizes(self, checkpoint: Checkpoint, layer: int) -> Shape:
        shape = self.shape(checkpoint.config)
        for name in self.expert_keys(layer, shape.num_experts):
            if name not in checkpoint.tensors:
                raise CheckpointError(
                    f"{checkpoint.folder} has no tensor {name!r}, though its config promises "
                    f"{shape.num_experts} experts: the checkpoint is incomplete"
                )
            found = checkpoint.tensors[name].shape
            neurons_first = (shape.intermediate_size, shape.hidden_size)
            expected = neurons_first[::-1] if self._part_of(name).transposed else neurons_first
            if found != expected:
                raise WeightError(f"tensor {name!r} has shape {found}, expected {expected} by the config")
        return shape

    def _part_of(self, name: str) -> Part:
        return next(part for part in self.parts if name.endswith(part.key.split("{k}")[-1]))

    def load(self, checkpoint: Checkpoint, layer: int, *, device: str = "cpu") -> ExpertStack:
        """Load one layer's experts as float32 design matrices.

        Raises
        ------
        UsageError
            If the layer has no experts or does not exist.
        WeightError
            If a stored shape is wrong or a weight is not finite.
        """
        layers = self.layers(checkpoint)
        if layer not in layers:
            raise UsageError(f"layer {layer} has no experts, expected one of {layers}")
        shape = self._check_sizes(checkpoint, layer)
        blocks = self.blocks(shape.hidden_size)
        weights = torch.empty(shape.num_experts, shape.intermediate_size, blocks[-1].stop, device=device)
        # One tensor at a time: the stack is the only copy of the layer in memory.
        for k in range(shape.num_experts):
            for part, block in zip(self.parts, blocks, strict=True):
                key = self._key(layer, k, part)
                tensor = read_tensors(checkpoint, [key], device=device)[key]
                weights[k, :, block.start : block.stop] = tensor.T if part.transposed else tensor
        return ExpertStack(weights, blocks, layer).checked()

    def blocks(self, p: int) -> tuple[Block, ...]:
        """Column ranges of the design matrix for hidden size p."""
        return tuple(Block(part.block, i * p, (i + 1) * p) for i, part in enumerate(self.parts))

    def split(self, stack: ExpertStack, *, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Return the stored tensors of a stack, under their names on disk."""
        tensors = {}
        for k in range(stack.num_experts):
            for part in self.parts:
                matrix = stack.block(part.block)[k].to(dtype)
                tensors[self._key(stack.layer, k, part)] = (matrix.T if part.transposed else matrix).contiguous()
        return tensors

    # -- in a running model ----------------------------------------------------------------------------------

    def pull(self, model: torch.nn.Module, layer: int) -> ExpertStack:
        """Copy a layer's experts out of a transformers model as float32 design matrices."""
        raise NotImplementedError

    def push(self, model: torch.nn.Module, stack: ExpertStack) -> None:
        """Put a stack's weights into a transformers model, in the model's own dtype and device."""
        raise NotImplementedError


class FusedGatedFamily(Family):
    """Families that transformers 5 keeps as ``gate_up_proj`` (N, 2 p_I, p) and ``down_proj`` (N, p, p_I)."""

    def pull(self, model: torch.nn.Module, layer: int) -> ExpertStack:
        """Copy a layer's experts out of a transformers model as float32 design matrices."""
        module = self.experts_module(model, layer)
        gate, up = _tensor(module, "gate_up_proj").chunk(2, dim=1)
        down = _tensor(module, "down_proj").transpose(1, 2)
        weights = torch.cat([gate, up, down], dim=2).float()
        return ExpertStack(weights, self.blocks(down.shape[2]), layer)

    def push(self, model: torch.nn.Module, stack: ExpertStack) -> None:
        """Put a stack's weights into a transformers model, in the model's own dtype and device."""
        module = self.experts_module(model, stack.layer)
        gate, up, down = (stack.block(part.block) for part in self.parts)
        with torch.no_grad():
            _tensor(module, "gate_up_proj").copy_(torch.cat([gate, up], dim=1))
            _tensor(module, "down_proj").copy_(down.transpose(1, 2))


def _tensor(module: torch.nn.Module, name: str) -> torch.Tensor:
    tensor = getattr(module, name, None)
    if not isinstance(tensor, torch.Tensor):
        raise CheckpointError(
            f"{type(module).__name__} has no fused {name!r}, expected transformers 5's layout: upgrade transformers"
        )
    return tensor.data


def config_int(config: Mapping[str, Any], key: str) -> int:
    """Return a positive whole number of a config.

    Raises
    ------
    CheckpointError
        If the config does not have it.
    """
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise CheckpointError(f"config.json has {key} = {value!r}, expected a positive whole number")
    return value


FAMILIES: Registry[type[Family]] = Registry("model family", "resmoe_lab.experts")


def family_of(checkpoint: Checkpoint) -> Family:
    """Return the family of a checkpoint.

    Raises
    ------
    CheckpointError
        If its ``model_type`` belongs to no family that is known here.
    """
    known = [FAMILIES[name] for name in FAMILIES.names()]
    for family in known:
        if checkpoint.model_type in family.model_types:
            return family()
    supported = ", ".join(model_type for family in known for model_type in family.model_types)
    found = checkpoint.model_type or "none at all"
    raise CheckpointError(f"{checkpoint.folder} has model_type {found!r}, expected one of: {supported}")
