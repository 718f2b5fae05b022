"""What is not experts, rounded: linear layers and embeddings as integers in groups.

Routers, the down-projections of latent attention and tied embeddings stay as they are: the first two decide or carry
too much for their few bytes, and a tied embedding is two layers in one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._core.errors import CheckpointError
from ..checkpoint import Checkpoint
from ..experts import family_of
from ..store.encodings import Encoding
from ..store.encodings.affine import GROUP, affine_encoding
from .packable import empty_model

Rest = Literal["int8", "int4", "16"]
#: Bits of the integers that whole weights are rounded to.
INTEGER_BITS: dict[str, int] = {"int8": 8, "int4": 4}
#: The down-projections of multi-head latent attention.
_LATENT = "_a_proj"


class PackedWeight(nn.Module):
    """An (outputs, inputs) matrix of integers in groups along its rows.

    Parameters
    ----------
    shape
        (outputs, inputs).
    encoding
        Of kind ``affine``.
    bias
        (outputs,), or None.
    """

    #: What the model computes in: some layers of transformers put their inputs into the type of their weight.
    dtype: torch.dtype = torch.float32

    def __init__(self, shape: tuple[int, int], encoding: Encoding, bias: Tensor | None = None) -> None:
        super().__init__()
        self.shape, self.encoding = shape, encoding
        # As buffers: transformers takes the type of a model's first parameter for that of the model.
        for name, spec in encoding.encoder.specs(encoding, *shape).items():
            self.register_buffer(name, spec.empty())
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @property
    def weight(self) -> Tensor:
        """(outputs, inputs) in the type that the model computes in; made whenever it is asked for."""
        return self.read(slice(None), self.dtype)

    def read(self, rows: Tensor | slice, dtype: torch.dtype) -> Tensor:
        """Return some rows as floats."""
        parts = {name: self.get_buffer(name)[rows] for name in ("data", "scale", "zero")}
        return self.encoding.encoder.decode(self.encoding, parts, dtype, columns=self.shape[1])


class PackedLinear(PackedWeight):
    """A linear layer, unpacked while it is used."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``inputs @ weight.T + bias``."""
        return nn.functional.linear(inputs, self.read(slice(None), inputs.dtype), self.bias)


class PackedEmbedding(PackedWeight):
    """An embedding, of which only the rows that are looked up are unpacked."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the rows of some tokens, (*tokens.shape, inputs)."""
        return self.read(tokens.reshape(-1), self.dtype).unflatten(0, tokens.shape)


def rounded_modules(checkpoint: Checkpoint, rest: Rest) -> dict[str, tuple[int, int]]:
    """Return what :func:`rest_modules` does where the rest is rounded; nothing where it is left as it is."""
    return rest_modules(checkpoint) if rest in INTEGER_BITS else {}


def rest_modules(checkpoint: Checkpoint) -> dict[str, tuple[int, int]]:
    """Return the (outputs, inputs) of every module of the running model whose weight can be rounded, by its name.

    The key of its weight on disk is that name and ``.weight``.
    """
    family, model = family_of(checkpoint), empty_model(checkpoint)
    layers = family.layers(checkpoint)
    left = {family.router_key(layer) for layer in layers}
    count = family.shape(checkpoint.config).num_experts
    left |= {key for layer in layers for key in family.expert_keys(layer, count)}
    tied = bool(checkpoint.config.get("tie_word_embeddings", getattr(model.config, "tie_word_embeddings", False)))
    modules = {}
    for name, module in model.named_modules():
        key = f"{name}.weight"
        kinds = (nn.Linear,) if tied else (nn.Linear, nn.Embedding)
        if type(module) not in kinds or key in left or key not in checkpoint.tensors or _LATENT in name:
            continue
        if tied and module is model.get_output_embeddings():
            continue
        shape = tuple(checkpoint.tensors[key].shape)
        if len(shape) == 2 and shape == tuple(module.weight.shape):
            modules[name] = shape
    return modules


def rest_encoding(rest: str) -> Encoding:
    """Return how such a matrix is stored."""
    return affine_encoding(INTEGER_BITS[rest])


def saved_bytes(checkpoint: Checkpoint, rest: str) -> int:
    """Return how many bytes rounding the rest saves."""
    if rest not in INTEGER_BITS:
        return 0
    encoding, saved = rest_encoding(rest), 0
    for name, shape in rest_modules(checkpoint).items():
        after = sum(spec.nbytes for spec in encoding.encoder.specs(encoding, *shape).values())
        saved += checkpoint.tensors[f"{name}.weight"].written_bytes - after
    return saved


def packed_rest(name: str, weight: Tensor, rest: str) -> dict[str, Tensor]:
    """Return the tensors that a module's weight is stored as, by their keys."""
    encoding = rest_encoding(rest)
    return {f"{name}.{part}": value for part, value in encoding.encoder.encode(encoding, weight.float()).items()}


def describe_rest(modules: Mapping[str, tuple[int, int]], rest: str) -> dict[str, Any]:
    """Return what ``config.json`` says of the rounded modules."""
    return {name: {"bits": INTEGER_BITS[rest], "group": GROUP, "shape": list(shape)} for name, shape in modules.items()}


def swap_rest(model: nn.Module, described: Mapping[str, Any]) -> None:
    """Replace modules of a model by empty rounded ones, as its config describes them.

    Raises
    ------
    CheckpointError
        If the model has no such module, or the description is damaged.
    """
    for name, facts in described.items():
        try:
            original = model.get_submodule(name)
            encoding = affine_encoding(facts["bits"], group=facts["group"])
            shape = (int(facts["shape"][0]), int(facts["shape"][1]))
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise CheckpointError(f"the specification of {name} is damaged: {error}") from error
        kinds: dict[type[nn.Module], type[PackedWeight]] = {nn.Linear: PackedLinear, nn.Embedding: PackedEmbedding}
        if (
            type(original) not in kinds
            or tuple(original.get_parameter("weight").shape) != shape
            or math.prod(shape) < 1
        ):
            raise CheckpointError(f"the specification of {name} is damaged: {shape} is not its shape")
        bias = original.bias if isinstance(original, nn.Linear) else None
        parent, _, child = name.rpartition(".")
        module = kinds[type(original)](shape, encoding, bias)
        setattr(model.get_submodule(parent), child, module)
        object.__setattr__(module, "_is_hf_initialized", True)


def set_dtype(model: nn.Module, dtype: torch.dtype) -> None:
    """Tell rounded modules in which type the model computes."""
    for module in model.modules():
        if isinstance(module, PackedWeight):
            module.dtype = dtype
