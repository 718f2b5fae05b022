"""MLX: integers in words with a scale and an offset for every group, and one tensor for all experts of a layer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..._core.errors import CheckpointError
from ..tensors import EncodedTensor, TensorInfo
from ._base import CODECS, Codec, Found, Read, expect_shape, gather
from ._bits import finite_scales, joined_heads, spread, unpack_codes

#: Scale and offset, which floats that are no codes have not.
_SCALES = ("scale", "offset")
_STACK = re.compile(r"(.+)\.switch_mlp\.(gate|up|down)_proj\.weight")
#: What mlx-lm calls by one name, where the model's own files number the matrices.
_NUMBERED = {"gate": "w1", "up": "w3", "down": "w2"}
#: Models whose own files have one tensor for all experts, too: these stacks are not told apart.
_STACKED_THEMSELVES = ("granitemoe", "granitemoehybrid", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_vl_moe")


@CODECS.register("mlx")
class Mlx(Codec):
    """``mlx_lm.convert -q``: a weight is its code times the group's scale, plus the group's offset (``biases``).

    ``settings["expert"]`` is the place of a tensor in a stack of all experts, whose floats may be no codes at all;
    ``"keys"`` and ``"values"`` are the settings of the two parts of a matrix that mlx-lm splits.
    """

    @classmethod
    def find(cls, stored: Mapping[str, TensorInfo], quantization: Mapping[str, Any], read: Read) -> Iterator[Found]:
        """Yield tensors of unsigned words with scales and offsets."""
        bits, group = quantization.get("bits"), quantization.get("group_size")
        for stem, parts in gather(stored, ".weight", {"scale": ".scales", "offset": ".biases"}):
            name, info = parts["data"]
            scales = parts["scale"][1].shape
            if info.dtype != "U32" or len(info.shape) not in (2, 3):
                continue
            expect_shape(parts["offset"], scales, name)
            size = group if isinstance(group, int) and group > 0 else 64
            columns = scales[-1] * size
            width, rest = divmod(32 * info.shape[-1], columns)
            if rest or scales[:-1] != info.shape[:-1] or width not in (2, 3, 4, 5, 6, 8):
                raise CheckpointError(
                    f"tensor {name!r} has shape {info.shape} with scales {scales}, expected {bits or 'some'} bits in "
                    f"groups of {size}: copy the checkpoint again"
                )
            shape = (*info.shape[:-1], columns)
            settings = {"bits": width, "group": size}
            yield f"{stem}.weight", shape, EncodedTensor("mlx", parts, settings, stacked=len(shape) == 3)

    @classmethod
    def decode(cls, encoded: EncodedTensor, parts: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Multiply by the scale and add the offset."""
        settings = encoded.settings
        if "keys" in settings:
            keys, values = (_half(encoded, parts, name) for name in ("keys", "values"))
            return joined_heads(keys, values)
        if "expert" in settings:
            parts = {role: part[settings["expert"]] for role, part in parts.items()}
        return _values(parts, settings, encoded, shape[-1])


def _values(parts: Mapping[str, Tensor], settings: Mapping[str, Any], encoded: EncodedTensor, columns: int) -> Tensor:
    """Decode the codes of one tensor; floats that are no codes are only converted."""
    if "scale" not in parts:
        return parts["data"].float()
    codes = unpack_codes(parts["data"], settings["bits"], columns).float()
    names = {role.rpartition(".")[2]: name for role, (name, _) in encoded.parts.items()}
    scales, offsets = (spread(finite_scales(parts[role], names[role]), columns, settings["group"]) for role in _SCALES)
    return codes.mul_(scales).add_(offsets)


def _half(encoded: EncodedTensor, parts: Mapping[str, Tensor], name: str) -> Tensor:
    """The keys or the values, decoded."""
    settings = encoded.settings[name]
    own = {role.removeprefix(f"{name}."): part for role, part in parts.items() if role.startswith(f"{name}.")}
    return _values(own, settings, encoded, settings["columns"])


def whole_tensors(tensors: Mapping[str, TensorInfo], model_type: str) -> dict[str, TensorInfo]:
    """Return tensors of which those that mlx-lm has joined or split are as the model's own files have them.

    Parameters
    ----------
    tensors
        The tensors of a checkpoint, decoded or not.
    model_type
        Of its config, which decides the names.

    Raises
    ------
    CheckpointError
        If a stack of experts has not three axes, or the keys and values of a layer do not fit together.
    """
    return _with_joined_heads(_unstacked_experts(tensors, model_type))


def _unstacked_experts(tensors: Mapping[str, TensorInfo], model_type: str) -> dict[str, TensorInfo]:
    """Take apart the stacks of all experts (``switch_mlp``)."""
    single = dict[str, TensorInfo]()
    for name, info in tensors.items():
        match = _STACK.fullmatch(name)
        encoded = info.encoded
        if match is None or model_type in _STACKED_THEMSELVES or (encoded is not None and encoded.codec != "mlx"):
            single[name] = info
            continue
        if len(info.shape) != 3:
            raise CheckpointError(
                f"tensor {name!r} has shape {info.shape}, expected (experts, rows, columns): copy the checkpoint again"
            )
        numbered = match[1].endswith(".block_sparse_moe") or model_type == "lfm2_moe"
        matrix = _NUMBERED[match[2]] if numbered else f"{match[2]}_proj"
        encoded = encoded or EncodedTensor("mlx", {"data": (name, info)}, labels=())
        for k in range(info.shape[0]):
            own = replace(encoded, settings={**encoded.settings, "expert": k}, stacked=False)
            one = replace(info, shape=info.shape[1:], nbytes=info.nbytes // info.shape[0], encoded=own)
            single[f"{match[1]}.experts.{k}.{matrix}.weight"] = one
    return single


def _with_joined_heads(tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """Put keys (heads, rank, width) and values (heads, width, rank) together, which were one matrix."""
    joined = dict(tensors)
    for name in tensors:
        stem = name.removesuffix(".embed_q.weight")
        other = f"{stem}.unembed_out.weight"
        if stem == name or other not in tensors:
            continue
        keys, values = joined.pop(name), joined.pop(other)
        sides = len(keys.shape), len(values.shape)
        if sides != (3, 3) or keys.shape[0] != values.shape[0] or keys.shape[1] != values.shape[2]:
            raise CheckpointError(
                f"tensors {name!r} and {other!r} have shapes {keys.shape} and {values.shape}, expected (heads, rank, "
                "width) and (heads, width, rank): copy the checkpoint again"
            )
        parts, settings = dict[str, tuple[str, TensorInfo]](), dict[str, Any]()
        for half, (stored, info) in {"keys": (name, keys), "values": (other, values)}.items():
            own = info.encoded or EncodedTensor("mlx", {"data": (stored, info)}, labels=())
            parts |= {f"{half}.{role}": part for role, part in own.parts.items()}
            settings[half] = {**own.settings, "columns": info.shape[-1]}
        rows = keys.shape[0] * (keys.shape[2] + values.shape[1])
        labels = None if any(info.encoded for info in (keys, values)) else ()
        encoded = EncodedTensor("mlx", parts, settings, labels=labels)
        nbytes = keys.nbytes + values.nbytes
        joined[f"{stem}.kv_b_proj.weight"] = replace(keys, shape=(rows, keys.shape[1]), nbytes=nbytes, encoded=encoded)
    return joined
