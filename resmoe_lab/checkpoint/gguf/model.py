"""A model in GGUF as the checkpoint that it was converted from: which tensors it has, and how each is decoded."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._core.errors import CheckpointError, ResmoeWarning
from ..tensors import EncodedTensor, TensorInfo
from .architectures import ARCHITECTURES, Architecture, Fused
from .config import gguf_config
from .files import read_headers
from .header import GgufHeader, GgufTensor

_IN_LAYER = re.compile(r"blk\.(\d+)\.(.+)")
_EXPERTS = re.compile(r"ffn_(gate|up|down|gate_up)_exps\.weight")
#: As files from before April 2024 name single experts.
_EXPERT = re.compile(r"ffn_(gate|up|down)\.(\d+)\.weight")
#: Heads, whose rows are in another order where pairs of neighbours are rotated.
_HEADS = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
#: How many layers behind the others predict further tokens.
_FURTHER = "nextn_predict_layers"
_DTYPES = {"float32": "F32", "bfloat16": "BF16"}


@dataclass(frozen=True)
class GgufModel:
    """What a model in GGUF holds.

    Parameters
    ----------
    config
        What a ``config.json`` would say.
    tensors
        Its tensors, by the names that they have in an unquantized checkpoint.
    architecture
        GGUF's name of its architecture.
    """

    config: dict[str, Any]
    tensors: dict[str, TensorInfo]
    architecture: str


def read_gguf_model(files: list[Path], given: Mapping[str, Any] | None = None) -> GgufModel:
    """Return what the files of a model in GGUF hold, without loading a tensor.

    Parameters
    ----------
    files
        All its files.
    given
        The ``config.json`` beside them, which says more than their metadata.

    Raises
    ------
    CheckpointError
        If a file is damaged, the architecture is not supported, or `given` is of another model.
    """
    header, stored = read_headers(files)
    architecture = _architecture(header)
    config = gguf_config(architecture, header, stored)
    if given is not None:
        config = _checked(dict(given), config, header)
    names = _Names(architecture, config, header)
    tensors = dict[str, TensorInfo]()
    stored = _without_further_layers(stored, config["num_hidden_layers"], header)
    for name, info in names.tensors(stored):
        if name in tensors:
            raise CheckpointError(f"{info.file} holds {name!r} twice, under two names: convert the model again")
        tensors[name] = info
    return GgufModel(config, tensors, architecture.name)


def _architecture(header: GgufHeader) -> Architecture:
    known = [architecture for architecture in ARCHITECTURES.values() if architecture.name == header.architecture]
    if not known:
        names = dict.fromkeys(architecture.name for architecture in ARCHITECTURES.values())
        raise CheckpointError(
            f"{header.file} holds a model of architecture {header.architecture!r}, expected one of "
            f"{', '.join(names)}: use the model's safetensors checkpoint"
        )
    gating = header.metadata.get(f"{header.architecture}.expert_gating_func")
    found = next((architecture for architecture in known if architecture.gating == gating), known[0])
    if not header.metadata.get(f"{found.name}.expert_count"):
        raise CheckpointError(
            f"{header.file} holds a {found.name} model without experts: expected a Mixture-of-Experts model"
        )
    return found


def _without_further_layers(
    stored: Mapping[str, tuple[Path, GgufTensor]], layers: int, header: GgufHeader
) -> dict[str, tuple[Path, GgufTensor]]:
    """Leave out the layers that predict further tokens."""
    kept, further = {}, set()
    for name, tensor in stored.items():
        match = _IN_LAYER.fullmatch(name)
        if match is not None and int(match[1]) >= layers and header.metadata.get(f"{header.architecture}.{_FURTHER}"):
            further.add(match[1])
        else:
            kept[name] = tensor
    if further:
        warnings.warn(
            f"{header.file} has {len(further)} layer(s) that predict further tokens: left out, the model runs without",
            ResmoeWarning,
            stacklevel=4,
        )
    return kept


def _checked(given: dict[str, Any], config: Mapping[str, Any], header: GgufHeader) -> dict[str, Any]:
    """The config that lies beside the file, without what it says of quantization, if it is of the same model."""
    for setting in ("model_type", "num_hidden_layers", "hidden_size"):
        if given.get(setting) != config[setting]:
            found, expected = given.get(setting), config[setting]
            raise CheckpointError(
                f"config.json beside {header.file} has {setting} = {found!r}, expected {expected!r}: it belongs "
                "to another model; put the file into a folder of its own"
            )
    given = {name: value for name, value in given.items() if name not in ("quantization_config", "quantization")}
    return given if "dtype" in given or "torch_dtype" in given else {**given, "dtype": config["dtype"]}


@dataclass(frozen=True)
class _Names:
    """Finds what each tensor is called in an unquantized checkpoint."""

    architecture: Architecture
    config: Mapping[str, Any]
    header: GgufHeader

    def tensors(self, stored: Mapping[str, tuple[Path, GgufTensor]]) -> Iterator[tuple[str, TensorInfo]]:
        """Yield the tensors that stored ones are decoded to."""
        roles = {role: fused for roles, fused in self.architecture.fused.items() for role in roles}
        waiting = defaultdict[tuple[str, Fused], dict[str, tuple[str, TensorInfo]]](dict)
        for name, (file, tensor) in stored.items():
            part = name, TensorInfo(file, tensor.kind, tensor.shape, tensor.nbytes)
            match = _IN_LAYER.fullmatch(name)
            if match is None:
                yield self._whole(part, self._module(name, name, self.architecture.ends))
                continue
            layer, rest = f"model.layers.{match[1]}", match[2]
            if rest in roles:
                waiting[layer, roles[rest]][rest] = part
            elif (experts := _EXPERTS.fullmatch(rest)) and self.architecture.experts:
                yield from self._experts(part, layer, experts[1])
            elif expert := _EXPERT.fullmatch(rest):
                yield self._whole(part, f"{layer}.{self._expert_name(name, expert[1]).format(k=expert[2])}")
            else:
                yield self._whole(part, f"{layer}.{self._module(name, rest, self.architecture.all_blocks)}")
        for (layer, fused), parts in waiting.items():
            yield self._fused(layer, fused, parts)

    def _module(self, name: str, rest: str, modules: Mapping[str, str]) -> str:
        stem, _, suffix = rest.rpartition(".")
        if rest in modules:
            return modules[rest]
        if stem in modules and suffix in ("weight", "bias"):
            return f"{modules[stem]}.{suffix}"
        raise CheckpointError(
            f"{self.header.file} holds tensor {name!r}, which is unknown in a model of architecture "
            f"{self.architecture.name}: this layout is not supported"
        )

    def _expert_name(self, name: str, matrix: str) -> str:
        if matrix not in self.architecture.experts:
            self._module(name, "", {})
        return self.architecture.experts[matrix]

    def _whole(self, part: tuple[str, TensorInfo], target: str) -> tuple[str, TensorInfo]:
        """One tensor that is one tensor."""
        name, info = part
        stem = name.rpartition(".")[0].rpartition(".")[2]
        settings: dict[str, Any] = {"layout": "whole"}
        if self.architecture.rotary and stem in _HEADS:
            settings = {"layout": "rotary", "heads": self._heads(info, _HEADS[stem])}
        # The gate of a shared expert is one row, which converters drop.
        shape = (1, info.shape[-1]) if stem == "ffn_gate_inp_shexp" else info.shape
        return target, self._info({"data": part}, shape, settings, nbytes=info.nbytes)

    def _heads(self, info: TensorInfo, setting: str) -> int:
        heads = self.config.get(setting) or self.config["num_attention_heads"]
        if info.shape[0] % (2 * heads):
            raise CheckpointError(f"{info.file} has {info.shape[0]} rows for {heads} heads: the file is damaged")
        return int(heads)

    def _experts(self, part: tuple[str, TensorInfo], layer: str, matrix: str) -> Iterator[tuple[str, TensorInfo]]:
        """One tensor of all experts, of which a checkpoint has one each."""
        name, info = part
        if len(info.shape) != 3:
            raise CheckpointError(f"{info.file}: tensor {name!r} has shape {info.shape}, expected one for each expert")
        count, rows, columns = info.shape
        pieces: dict[str, dict[str, Any]] = {matrix: {}}
        if matrix == "gate_up":
            rows //= 2
            pieces = {"gate": {"rows": (0, rows)}, "up": {"rows": (rows, 2 * rows)}}
        for piece, settings in pieces.items():
            target = f"{layer}.{self._expert_name(name, piece)}"
            for k in range(count):
                chosen = {"layout": "whole", "expert": k, **settings}
                nbytes = info.nbytes // (count * len(pieces))
                yield target.format(k=k), self._info({"data": part}, (rows, columns), chosen, nbytes=nbytes)

    def _fused(self, layer: str, fused: Fused, parts: dict[str, tuple[str, TensorInfo]]) -> tuple[str, TensorInfo]:
        """Tensors of all experts that are one tensor of all experts."""
        expected = next(roles for roles, target in self.architecture.fused.items() if target == fused)
        if set(parts) != set(expected):
            raise CheckpointError(
                f"{self.header.file} holds {next(iter(parts.values()))[0]!r}, expected {', '.join(expected)} of a "
                "layer: the file is incomplete"
            )
        ordered = {role: parts[role] for role in expected}
        if fused.layout == "latent":
            return f"{layer}.{fused.name}", self._latent(ordered)
        shapes = {info.shape for _, info in ordered.values()}
        if len(shapes) > 1 or len(next(iter(shapes))) < 2:
            raise CheckpointError(
                f"{self.header.file} has {', '.join(expected)} of shapes {shapes}, expected equal ones"
            )
        count, *sides = next(iter(shapes))
        shape = [sides[0] * len(ordered), *sides[1:]]
        turned = fused.layout in ("transposed", "interleaved")
        nbytes = sum(info.nbytes for _, info in ordered.values())
        settings = {"layout": fused.layout}
        shape = shape[::-1] if turned else shape
        return f"{layer}.{fused.name}", self._info(ordered, (count, *shape), settings, nbytes=nbytes, stacked=True)

    def _latent(self, parts: Mapping[str, tuple[str, TensorInfo]]) -> TensorInfo:
        """Keys (heads, rank, width) and values (heads, width, rank), which were one matrix."""
        (_, keys), (_, values) = parts.values()
        sides = len(keys.shape), len(values.shape)
        if sides != (3, 3) or keys.shape[0] != values.shape[0] or keys.shape[1] != values.shape[2]:
            raise CheckpointError(
                f"{keys.file} has {', '.join(parts)} of shapes {keys.shape} and {values.shape}, expected (heads, rank, "
                "width) and (heads, width, rank)"
            )
        rows = keys.shape[0] * (keys.shape[2] + values.shape[1])
        shape = rows, keys.shape[1]
        return self._info(parts, shape, {"layout": "latent"}, nbytes=keys.nbytes + values.nbytes)

    def _info(
        self,
        parts: Mapping[str, tuple[str, TensorInfo]],
        shape: tuple[int, ...],
        settings: Mapping[str, Any],
        *,
        nbytes: int,
        stacked: bool = False,
    ) -> TensorInfo:
        kinds = {info.dtype for _, info in parts.values()}
        floats = kinds <= {"F32", "F16", "BF16"} and len(kinds) == 1
        said = str(self.config.get("dtype") or self.config.get("torch_dtype"))
        dtype = kinds.copy().pop() if floats else _DTYPES.get(said, "F16")
        labels = () if floats else tuple(f"gguf {kind}" for kind in sorted(kinds))
        encoded = EncodedTensor("gguf", parts, settings, stacked, labels)
        return TensorInfo(next(iter(parts.values()))[1].file, dtype, shape, nbytes, encoded)
