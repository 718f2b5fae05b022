"""What a model family declares of its experts' sizes, and of where they are in a running model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch

from .._core.errors import CheckpointError, UsageError
from ._formula import computes_formula
from ._layout import FUSED_PARTS, Part, Shape, blocks_of, copy_block
from ._stack import Block, ExpertStack, LayerShape


class RunningExperts:
    """Where the experts of a family are in a running transformers model.

    Parameters
    ----------
    config
        The checkpoint's config.

    Attributes
    ----------
    parts
        An expert's matrices on disk, in the order of the design matrix's columns.
    module
        Name of the MoE block in a running transformers model, with ``{layer}``.
    module_parts
        An expert's matrices below the block's ``experts``.
    module_router
        Name of the router module below the block; its ``weight`` is the router's.
    routes_by_mask
        Whether the block passes its experts a (T, 1, N) mask instead of the (T, top_k) indices of the selected experts.
    """

    parts: ClassVar[tuple[Part, ...]]
    module: ClassVar[str] = "model.layers.{layer}.mlp"
    module_parts: ClassVar[tuple[Part, ...]] = FUSED_PARTS
    module_router: ClassVar[str] = "gate"
    routes_by_mask: ClassVar[bool] = False

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """Return the sizes that a config declares."""
        raise NotImplementedError

    def layer_shape(self) -> LayerShape:
        """Return the sizes of a layer's experts, from the config."""
        shape = self.shape(self.config)
        return LayerShape.of(shape.num_experts, shape.intermediate_size, self.blocks(shape.hidden_size))

    def blocks(self, hidden_size: int) -> tuple[Block, ...]:
        """Return the column ranges of the design matrix for hidden size p."""
        return blocks_of(self.parts, hidden_size)

    def empty_stack(self, layer: int, shape: Shape, **options: Any) -> ExpertStack:
        """Return a stack for a layer's experts, its weights not yet filled in."""
        blocks = self.blocks(shape.hidden_size)
        weights = torch.empty(shape.num_experts, shape.intermediate_size, blocks[-1].stop, **options)
        return ExpertStack(weights, blocks, layer)

    def module_name(self, layer: int) -> str:
        """Return the name of a layer's MoE block in a running transformers model."""
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
        if not computes_formula(module, self.module_parts):
            raise not_packable(module)
        return module.act_fn  # type: ignore[return-value]

    def from_model(self, model: torch.nn.Module, layer: int) -> ExpertStack:
        """Return a copy of a layer's experts in a transformers model, as float32 design matrices."""
        module = self.experts_module(model, layer)
        first = _tensor(module, self.module_parts[0].key.format(k=0))
        stack = self.empty_stack(layer, self.shape(self.config), device=first.device)

        def matrix(part: Part, k: int) -> torch.Tensor:
            tensor = _tensor(module, part.key.format(k=k))
            return tensor[k] if part.fused else tensor

        fill_stack(stack, self.module_parts, matrix)
        return stack

    def to_model(self, model: torch.nn.Module, stack: ExpertStack) -> None:
        """Copy a stack's weights into a transformers model, in the model's dtype and on its device."""
        for k in range(stack.num_experts):
            self.expert_to_model(model, stack.layer, k, stack.weights[k])

    def expert_to_model(self, model: torch.nn.Module, layer: int, expert: int, weights: torch.Tensor) -> None:
        """Copy one expert's (p_I, D) design matrix into a transformers model, in its dtype and on its device."""
        module = self.experts_module(model, layer)
        columns = {block.name: block for block in self.blocks(self.shape(self.config).hidden_size)}
        for part in self.module_parts:
            block = columns[part.block]
            target = part.view(_tensor(module, part.key.format(k=expert)), expert)
            copy_block(target, weights[:, block.start : block.stop])


def not_packable(module: torch.nn.Module) -> UsageError:
    """Return the error about an experts module whose computation packed experts do not implement."""
    return UsageError(
        f"{type(module).__name__} cannot be packed, as it computes something else than W2 (act(W1 x) * W3 x): export "
        "its restored experts instead (dense)"
    )


def fill_stack(stack: ExpertStack, parts: tuple[Part, ...], matrix_of: Callable[[Part, int], torch.Tensor]) -> None:
    """Copy every expert's matrices into a stack, from what gives the matrix of a part and an expert."""
    for k in range(stack.num_experts):
        for part in parts:
            copy_block(stack.block(part.block)[k], part.matrix(matrix_of(part, k)))


def _tensor(module: torch.nn.Module, name: str) -> torch.Tensor:
    try:
        return module.get_parameter(name).data
    except AttributeError as error:
        raise CheckpointError(
            f"{type(module).__name__} has no {name!r}, expected transformers 5's layout: upgrade transformers"
        ) from error
