"""The export that compressed-tensors reads: experts as packed four-bit integers or as eight-bit floats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._core.errors import UsageError
from ..checkpoint import Checkpoint
from ..experts import Family, copy_block, empty_model, family_of
from ..store.bits import pack_codes, unpack_codes

CompressedType = Literal["int4", "fp8"]
#: Weights along a row that share a scale: the first that divides all rows, or else a row is a group.
_GROUPS = (128, 64, 32, 16)
#: Codes of four-bit integers, and the largest number of e4m3.
_LOWEST, _HIGHEST, _FP8_MAX = -8, 7, 448.0
_BITS, _WORD = 4, 8
_SHAPE_BYTES = 16


@dataclass(frozen=True)
class Scheme:
    """How a model's experts are stored.

    Parameters
    ----------
    kind
        ``"int4"``, symmetric integers in groups, or ``"fp8"``, a scale for each output.
    group
        Weights along a row that share a scale (None: all).
    scales
        Type of the scales.
    """

    kind: CompressedType
    group: int | None
    scales: torch.dtype

    @classmethod
    def of(cls, checkpoint: Checkpoint, kind: CompressedType) -> Scheme:
        """Return the scheme of a checkpoint's experts: transformers takes one for all of them."""
        family = family_of(checkpoint)
        widths = {sides[-1] for _, sides in _matrices(family)}
        group = next((size for size in _GROUPS if all(width % size == 0 for width in widths)), None)
        first = next(family.expert_keys(family.layers(checkpoint)[0], 1))
        scales = torch.bfloat16 if checkpoint.tensors[first].dtype == "BF16" else torch.float32
        return cls(kind, group if kind == "int4" else None, scales)

    def encode(self, weight: Tensor) -> dict[str, Tensor]:
        """Return the tensors that an (outputs, inputs) float32 matrix is stored as, by the ends of their names."""
        outputs, inputs = weight.shape
        groups = weight.reshape(outputs, -1, self.group or inputs)
        scales = self._scales(groups)
        scaled = groups / scales.float()[:, :, None]
        if self.kind == "fp8":
            values = scaled.clamp(-_FP8_MAX, _FP8_MAX).reshape(weight.shape)
            return {"weight": values.to(torch.float8_e4m3fn), "weight_scale": scales}
        codes = (scaled.round().clamp(_LOWEST, _HIGHEST) - _LOWEST).reshape(weight.shape).to(torch.uint8)
        words = pack_codes(codes, _BITS).view(torch.int32)
        shape = torch.tensor(weight.shape, dtype=torch.int64)
        return {"weight_packed": words, "weight_scale": scales, "weight_shape": shape}

    def decode(self, stored: dict[str, Tensor]) -> Tensor:
        """Return the float32 matrix that such tensors are read as."""
        scales = stored["weight_scale"].float()
        if self.kind == "fp8":
            return stored["weight"].float() * scales
        outputs, inputs = stored["weight_shape"].tolist()
        codes = unpack_codes(stored["weight_packed"].view(torch.uint8), _BITS, inputs).float() + _LOWEST
        return (codes.reshape(outputs, scales.shape[1], -1) * scales[:, :, None]).reshape(outputs, inputs)

    def nbytes(self, sides: tuple[int, int]) -> int:
        """Return the stored bytes of an (outputs, inputs) matrix."""
        outputs, inputs = sides
        scales = outputs * (inputs // (self.group or inputs)) * self.scales.itemsize
        if self.kind == "fp8":
            return outputs * inputs + scales
        return outputs * 4 * (inputs // _WORD) + scales + _SHAPE_BYTES

    def described(self, ignored: Iterable[str]) -> dict[str, Any]:
        """Return what ``config.json`` says of the quantization, with the modules that are left as they are."""
        weights = {
            "num_bits": _BITS,
            "type": "int",
            "symmetric": True,
            "strategy": "group" if self.group else "channel",
        }
        weights |= {"group_size": self.group, "dynamic": False}
        inputs, form = None, "pack-quantized"
        if self.kind == "fp8":
            weights |= {"num_bits": 8, "type": "float"}
            inputs = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "token", "dynamic": True}
            form = "float-quantized"
        group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs, "output_activations": None}
        return {
            "quant_method": "compressed-tensors",
            "format": form,
            "quantization_status": "compressed",
            "config_groups": {"group_0": group},
            "ignore": list(ignored),
        }

    def _scales(self, groups: Tensor) -> Tensor:
        """(outputs, groups) scales: the format's own, of which none is zero."""
        largest = groups.abs().amax(dim=2)
        scales = largest / ((_HIGHEST - _LOWEST) / 2 if self.kind == "int4" else _FP8_MAX)
        least = torch.finfo(self.scales).tiny
        return torch.where(scales > least, scales, torch.ones_like(scales)).to(self.scales)


class StoredExperts:
    """The experts of a layer as compressed-tensors stores them, filled one by one.

    Parameters
    ----------
    family
        The model's family.
    layer
        The layer's number.
    scheme
        How they are stored.
    """

    def __init__(self, family: Family, layer: int, scheme: Scheme) -> None:
        self._family, self._layer, self._scheme = family, layer, scheme
        #: The stored tensors, by their names.
        self.tensors: dict[str, Tensor] = {}

    def put(self, expert: int, matrix: Tensor) -> Tensor:
        """Store an expert's (p_I, D) design matrix; return what it is read as."""
        family = self._family
        shape = family.shape(family.config)
        columns = {block.name: slice(block.start, block.stop) for block in family.blocks(shape.hidden_size)}
        read, weights = torch.empty_like(matrix), dict[str, Tensor]()
        for part in family.parts:
            weight = weights.setdefault(part.key, torch.empty(part.stored_shape(shape)))
            copy_block(part.view(weight, expert), matrix[:, columns[part.block]])
        for key, weight in weights.items():
            stem = f"{family.prefix(self._layer)}.{key.format(k=expert)}".removesuffix("weight")
            stored = self._scheme.encode(weight)
            self.tensors |= {f"{stem}{end}": tensor for end, tensor in stored.items()}
            weights[key] = self._scheme.decode(stored)
        for part in family.parts:
            copy_block(read[:, columns[part.block]], part.view(weights[part.key], expert))
        return read


def check_compressed_tensors(checkpoint: Checkpoint, layers: Iterable[int], kind: CompressedType) -> None:
    """Refuse what transformers does not open in this form, before any work.

    Parameters
    ----------
    checkpoint
        What will be compressed.
    layers
        The layers that will be.
    kind
        What their experts are rounded to.

    Raises
    ------
    UsageError
        Naming the model type, a tensor or the layers.
    """
    family, model = family_of(checkpoint), empty_model(checkpoint.config)
    if not _is_separate(family) or not _is_fused(family, model, next(iter(layers))):
        raise UsageError(
            f"transformers reads no compressed-tensors experts of model_type {checkpoint.model_type!r}, which it does "
            "not put together from one matrix each: export dense instead"
        )
    if kind != "int4":
        return
    if odd := next((sides for _, sides in _matrices(family) if sides[1] % _WORD), None):
        raise UsageError(
            f"int4 packs {_WORD} weights of a row into a word, found experts with matrices {odd}: choose "
            "--compressed-type fp8"
        )
    # Its rules take, beside packed experts, every other tensor that they put together for a packed one.
    if joined := next(_joined(checkpoint, family, model), None):
        raise UsageError(
            f"transformers loses tensor {joined!r} of model_type {checkpoint.model_type!r} beside int4 experts: choose "
            "--compressed-type fp8"
        )
    if left := sorted(set(family.layers(checkpoint)) - set(layers)):
        raise UsageError(
            f"transformers loses experts in floats beside int4 ones, found layers {left} left out: take all layers, or "
            "--compressed-type fp8"
        )


def compressed_tensors_bytes(checkpoint: Checkpoint, kind: CompressedType) -> int:
    """Return the bytes of a layer's experts in this form."""
    family, scheme = family_of(checkpoint), Scheme.of(checkpoint, kind)
    return family.layer_shape().num_experts * sum(scheme.nbytes(sides) for _, sides in _matrices(family))


def ignored_modules(checkpoint: Checkpoint, layers: Iterable[int]) -> list[str]:
    """Return the names of all modules but the experts of some layers, as they are on disk and in the running model."""
    family = family_of(checkpoint)
    count = family.shape(checkpoint.config).num_experts
    experts = {key for layer in layers for key in family.expert_keys(layer, count)}
    stored = {
        name.removesuffix(".weight")
        for name, info in checkpoint.tensors.items()
        if name.endswith(".weight") and len(info.shape) == 2 and name not in experts
    }
    running = {name for name, module in empty_model(checkpoint.config).named_modules() if isinstance(module, nn.Linear)}
    return sorted(stored | running)


def _is_separate(family: Family) -> bool:
    """Whether each matrix of each expert is a weight of its own on disk."""
    return all(not part.fused and not part.vector and part.key.endswith(".weight") for part in family.parts)


def _is_fused(family: Family, model: nn.Module, layer: int) -> bool:
    """Whether transformers puts them together when it loads them, which is where it decodes them."""
    module = family.experts_module(model, layer)
    return all(part.fused and isinstance(getattr(module, part.key, None), nn.Parameter) for part in family.module_parts)


def _joined(checkpoint: Checkpoint, family: Family, model: Any) -> Iterator[str]:
    """Weights that are no experts, and that transformers puts together when it loads them."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter

    count = family.shape(checkpoint.config).num_experts
    experts = {key for layer in family.layers(checkpoint) for key in family.expert_keys(layer, count)}
    rules = [rule for rule in get_model_conversion_mapping(model) if isinstance(rule, WeightConverter)]
    for name in checkpoint.tensors:
        if (
            name not in experts
            and name.endswith(".weight")
            and any(rule.compiled_sources.search(name) for rule in rules)
        ):
            yield name


def _matrices(family: Family) -> Iterator[tuple[str, tuple[int, int]]]:
    """The keys of one expert's stored matrices, and their sides."""
    shape = family.shape(family.config)
    for key, part in {part.key: part for part in family.parts}.items():
        outputs, inputs = part.stored_shape(shape)[-2:]
        yield key, (outputs, inputs)
