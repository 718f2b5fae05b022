"""bitsandbytes: four-bit codes of a table with a scale for every block, and rows of eight bits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..._core.errors import CheckpointError
from ..tensors import EncodedTensor, TensorInfo
from ._base import CODECS, Codec, Found, Read, expect_shape, gather
from ._bits import finite_scales

_ROLES = {
    "absmax": ".absmax",
    "table": ".quant_map",
    "nested_absmax": ".nested_absmax",
    "nested_table": ".nested_quant_map",
}
_STATES = (".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4")


@CODECS.register("bitsandbytes")
class BitsAndBytes(Codec):
    """NF4 and FP4, whose scales may be quantized too, and LLM.int8()."""

    @classmethod
    def find(cls, stored: Mapping[str, TensorInfo], quantization: Mapping[str, Any], read: Read) -> Iterator[Found]:
        """Yield tensors with a state beside them, or with a scale for each row."""
        for state in _STATES:
            found = list(gather(stored, state, {"codes": "", **_ROLES}, ("nested_absmax", "nested_table")))
            states = read([parts["data"][0] for _, parts in found])
            for stem, parts in found:
                facts = _facts(parts["data"][0], states[parts["data"][0]])
                yield stem, tuple(facts["shape"]), EncodedTensor("bitsandbytes", parts, facts)
        for stem, parts in gather(stored, ".weight", {"rows": ".SCB", "format": ".weight_format"}, ("format",)):
            name, info = parts["data"]
            if info.dtype == "I8" and len(info.shape) == 2:
                expect_shape(parts["rows"], info.shape[:1], name)
                yield f"{stem}.weight", info.shape, EncodedTensor("bitsandbytes", parts)

    @classmethod
    def decode(cls, encoded: EncodedTensor, parts: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Look every code up in the table, and multiply by its block's scale."""
        if "rows" in parts:
            return parts["data"].float() * (finite_scales(parts["rows"], encoded.parts["rows"][0])[:, None] / 127)
        facts, count = encoded.settings, torch.Size(shape).numel()
        absmax = parts["absmax"]
        if "nested_absmax" in parts:
            inner = finite_scales(parts["nested_absmax"], encoded.parts["nested_absmax"][0])
            outer = inner.repeat_interleave(facts["nested_blocksize"])[: len(absmax)]
            absmax = parts["nested_table"].float()[absmax.long()] * outer + facts.get("nested_offset", 0.0)
        absmax = finite_scales(absmax, encoded.parts["absmax"][0])
        codes = parts["codes"].flatten()
        if 2 * len(codes) < count or len(absmax) * facts["blocksize"] < count:
            raise CheckpointError(
                f"tensor {encoded.parts['codes'][0]!r} holds {2 * len(codes)} codes in {len(absmax)} blocks, expected "
                f"{count} in blocks of {facts['blocksize']}: copy the checkpoint again"
            )
        # The high half of a byte comes first.
        halves = torch.stack([codes >> 4, codes & 15], dim=1).flatten()[:count]
        values = parts["table"].float()[halves.int()]
        values *= absmax.repeat_interleave(facts["blocksize"])[:count]
        return values.view(shape)


def _facts(name: str, state: Tensor) -> dict[str, Any]:
    """What the JSON in a state says, as far as it is used."""
    try:
        content = json.loads(bytes(state.flatten().tolist()))
        shape = [int(side) for side in content["shape"]]
        facts: dict[str, Any] = {"shape": shape, "blocksize": int(content["blocksize"])}
        if "nested_blocksize" in content:
            facts["nested_blocksize"] = int(content["nested_blocksize"])
            facts["nested_offset"] = float(content.get("nested_offset", 0.0))
        if min(shape) < 0 or facts["blocksize"] < 1 or facts.get("nested_blocksize", 1) < 1:
            raise ValueError(f"shape {shape}, blocks of {facts['blocksize']}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"tensor {name!r} is damaged ({error}): copy the checkpoint again") from error
    return facts
