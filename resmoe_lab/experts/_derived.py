"""Families that nobody wrote down: read from transformers' model class, and from how it names its tensors on disk.

transformers 5 converts what lies on disk into fused experts by rules, and has the same rules backwards for saving.
Tensors whose values are all different are sent backwards through them, and what comes out tells which block of which
expert lies where, and how it is turned.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

import torch

from .._core.errors import CheckpointError
from ..checkpoint import Checkpoint
from ._base import Family
from ._layout import Part, Shape
from ._transformers import empty_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Experts, neurons and inputs of the tensors that are sent through the rules.
_EXPERTS, _NEURONS, _INPUTS = 3, 4, 5
_TOP_K = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k", "top_k_experts", "top_k")
_ROUTER_WORDS = ("gate", "router")


class DerivedFamily(Family):
    """A family whose layout was derived; subclasses are made by :func:`derive_family`, one for each config."""

    name = "derived"
    model_types = ()
    other_tensors = ".*"
    dense_tensors = ".*"
    derived: _Derived

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """Return the sizes of the model's own experts."""
        return self.derived.shape

    def routed_layers(self, names: Iterable[str]) -> list[int]:
        """Return the layers that have experts in the model."""
        return list(self.derived.layers)

    def _num_layers(self) -> int:
        return 1 + max(self.derived.layers)

    def _has_experts(self, layer: int, names: list[str]) -> bool:
        return layer in self.derived.layers


@dataclass(frozen=True)
class _Derived:
    """What a family is made of."""

    block: str
    parts: tuple[Part, ...]
    router: str
    module: str
    module_parts: tuple[Part, ...]
    module_router: str
    shape: Shape
    layers: tuple[int, ...]


def derive_family(config: Mapping[str, Any]) -> type[DerivedFamily]:
    """Return the family of a ``config.json``.

    Raises
    ------
    CheckpointError
        Saying what cannot be derived.
    """
    return _family_class(json.dumps({**config, "quantization_config": None}, sort_keys=True, default=str))


def fused_on_disk(family: type[Family], checkpoint: Checkpoint) -> type[Family]:
    """Return a family whose experts lie in the files as the model holds them, where these do.

    transformers writes such files with ``save_pretrained(..., save_original_format=False)``.
    """
    names = {re.sub(r"\.\d+\.", ".{layer}.", name, count=1) for name in checkpoint.tensors}
    inside = [f"experts.{part.key}" for part in family.module_parts]
    if f"{family.block}.{family.parts[0].key.format(k=0)}" in names or not family.module_parts[0].fused:
        return family
    if not all(f"{family.module}.{key}" in names for key in inside):
        return family
    parts = tuple(_renamed(part, f"experts.{part.key}") for part in family.module_parts)
    router = f"{family.module_router}.weight"
    content = {"block": family.module, "parts": parts, "router": router, "other_tensors": ".*", "dense_tensors": ".*"}
    return type(family.__name__, (family,), content)


def _renamed(part: Part, key: str) -> Part:
    return Part(part.block, key, part.transposed, part.half, part.interleaved, part.vector)


@lru_cache(maxsize=64)
def _family_class(config: str) -> type[DerivedFamily]:
    content = json.loads(config)
    with torch.device("cpu"):  # models are loaded with another as the default
        derived = _derive(empty_model(content))
    names = ("block", "parts", "router", "module", "module_parts", "module_router")
    fields = {name: getattr(derived, name) for name in names}
    model_type = str(content["model_type"])
    return type(
        "DerivedFamily",
        (DerivedFamily,),
        {"name": model_type, "model_types": (model_type,), "derived": derived} | fields,
    )


def _derive(model: PreTrainedModel) -> _Derived:
    experts = {name: module for name, module in model.named_modules() if _is_fused(module)}
    kind = type(model).__name__
    if not experts:
        raise CheckpointError(
            f"{kind} has no fused experts as transformers describes them: this family is not supported"
        )
    numbers = {name: _numbers(name) for name in experts}
    if any(len(places) != 1 or not name.endswith(".experts") for name, places in numbers.items()):
        raise CheckpointError(f"{kind} has experts at {next(iter(experts))!r}, expected them once in each layer")
    patterns = {re.sub(r"\.\d+\.", ".{layer}.", name) for name in experts}
    shapes = {_shape(module) for module in experts.values()}
    if len(patterns) != 1 or len(shapes) != 1:
        raise CheckpointError(f"{kind} has layers with experts of different sizes or places: this is not supported")
    first, module = next(iter(experts.items()))
    [(count, neurons, inputs)], [pattern] = shapes, patterns
    inner = module_parts(module, kind)
    block, parts = _on_disk(model, first, inner)
    place = first.removesuffix(".experts")
    router = _router(model, place, (count, inputs))
    return _Derived(
        block=block,
        parts=parts,
        router=_stored_router(model, place, router, block, (count, inputs)),
        module=pattern.removesuffix(".experts"),
        module_parts=inner,
        module_router=router,
        shape=Shape(count, inputs, neurons, _top_k(model)),
        layers=tuple(sorted(places[0] for places in numbers.values())),
    )


def _is_fused(module: torch.nn.Module) -> bool:
    """Whether transformers describes the module's weights: as its decorator for experts does."""
    return hasattr(module, "is_transposed") and hasattr(module, "has_gate") and hasattr(module, "down_proj")


def module_parts(module: torch.nn.Module, kind: str) -> tuple[Part, ...]:
    """Return the parts of a module that transformers' decorator for experts describes.

    Raises
    ------
    CheckpointError
        If it has biases, or norms of its own.
    """
    if module.has_bias or getattr(module, "has_post_expert_norm", False):
        raise CheckpointError(f"{kind} has experts with biases or norms, which only a family of its own can describe")
    turned = bool(module.is_transposed)
    if not module.has_gate:
        return Part("w1", "up_proj", transposed=turned), Part("w2", "down_proj", transposed=not turned)
    mixed = not module.is_concatenated
    return (
        Part("w1", "gate_up_proj", transposed=turned, half=0, interleaved=mixed),
        Part("w3", "gate_up_proj", transposed=turned, half=1, interleaved=mixed),
        Part("w2", "down_proj", transposed=not turned),
    )


def _shape(module: torch.nn.Module) -> tuple[int, int, int]:
    """Experts, neurons and inputs."""
    count, *sides = module.get_parameter("down_proj").shape
    inputs, neurons = sides[::-1] if module.is_transposed else sides
    return count, neurons, inputs


def _numbers(name: str) -> list[int]:
    return [int(piece) for piece in name.split(".") if piece.isdigit()]


def _on_disk(model: PreTrainedModel, experts: str, inner: tuple[Part, ...]) -> tuple[str, tuple[Part, ...]]:
    """The name of a block on disk, and the parts below it."""
    small = Shape(_EXPERTS, _INPUTS, _NEURONS, 1)
    sent = {part.key: torch.zeros(part.stored_shape(small)) for part in inner}
    for number, key in enumerate(sent):
        tensor = sent[key]
        sent[key] = torch.arange(tensor.numel(), dtype=torch.float64).view(tensor.shape) + 1000 * number
    stored = _saved(model, {f"{experts}.{key}": tensor for key, tensor in sent.items()})
    wanted = {part.block: [part.view(sent[part.key], k) for k in range(_EXPERTS)] for part in inner}
    found = [_stored_part(block, matrices, stored) for block, matrices in wanted.items()]
    names = [name for name, _ in found]
    stem = names[0]
    while not all(name.startswith(f"{stem}.") for name in names):
        stem = stem.rpartition(".")[0]
    # Where experts have a name of their own, it belongs to the parts: a block holds more than its experts.
    stem = stem.removesuffix(".{k}").removesuffix(".experts")
    parts = tuple(_renamed(part, name.removeprefix(f"{stem}.")) for name, part in found)
    layer = _numbers(experts)[0]
    block = re.sub(rf"\.{layer}(?=\.|$)", ".{layer}", stem, count=1)
    if "{layer}" not in block:
        raise CheckpointError(
            f"{type(model).__name__} keeps {names[0]!r} of all layers together: this is not supported"
        )
    return block, parts


def _saved(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Some tensors of a model as ``save_pretrained`` writes them."""
    from transformers.core_model_loading import revert_weight_conversion

    return dict(revert_weight_conversion(model, dict(tensors)))


def _stored_part(block: str, matrices: list[torch.Tensor], stored: Mapping[str, torch.Tensor]) -> tuple[str, Part]:
    """Find a block of all experts in what was saved: its name, ``{k}`` where experts differ, and how it is turned."""
    for name, part in _candidates(block, stored):
        keys = [part.key.format(k=k) for k in range(len(matrices))]
        if all(key in stored for key in keys) and all(
            _same(part, stored[key], k, matrix) for k, (key, matrix) in enumerate(zip(keys, matrices, strict=True))
        ):
            return name, part
    raise CheckpointError(
        f"block {block!r} is stored in a way that cannot be derived, as {', '.join(list(stored)[:3])}"
    )


def _candidates(block: str, stored: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, Part]]:
    for name in stored:
        pieces = name.split(".")
        templates = [name] if stored[name].dim() == 3 else []
        zeros = [place for place, piece in enumerate(pieces) if piece == "0"]
        templates += [".".join([*pieces[:place], "{k}", *pieces[place + 1 :]]) for place in zeros]
        halves = [(None, False), (0, False), (1, False), (0, True), (1, True)]
        for template, turned, (half, mixed) in product(templates, (False, True), halves):
            yield template, Part(block, template, transposed=turned, half=half, interleaved=mixed)


def _same(part: Part, tensor: torch.Tensor, expert: int, matrix: torch.Tensor) -> bool:
    if tensor.dim() != (3 if part.fused else 2):
        return False
    view = part.view(tensor, expert)
    return view.shape == matrix.shape and bool((view == matrix).all())


def _router(model: PreTrainedModel, place: str, shape: tuple[int, int]) -> str:
    """The name of the router's module below the block; empty if no weight has the shape of a router's."""
    block = model.get_submodule(place)
    names = [
        name.removesuffix(".weight")
        for name, parameter in block.named_parameters()
        if tuple(parameter.shape) == shape and name.endswith(".weight") and not name.startswith("experts.")
    ]
    names.sort(key=lambda name: not any(word in name for word in _ROUTER_WORDS))
    return names[0] if names else ""


def _stored_router(model: PreTrainedModel, place: str, router: str, block: str, shape: tuple[int, int]) -> str:
    """The name of the router's weight below the block on disk."""
    if not router:
        return ""
    [name] = _saved(model, {f"{place}.{router}.weight": torch.zeros(shape)})
    layer = _numbers(place)[0]
    return name.removeprefix(f"{block.format(layer=layer)}.")


def _top_k(model: PreTrainedModel) -> int:
    config = model.config.get_text_config()
    values = [getattr(config, name, None) for name in _TOP_K]
    return next((value for value in values if isinstance(value, int) and value > 0), 1)
