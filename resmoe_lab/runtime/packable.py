"""What can be packed, and what it will weigh: known from a checkpoint's config, before any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from .._core.errors import UsageError
from ..checkpoint import Checkpoint
from ..experts import Block, Family, family_of
from ..methods import CompressedLayer, Method
from ..store.encoding import value_type
from .packing import choose_form, counts_of, packed_prefix, weigh_packed
from .specs import Spec, outline

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Centers that give each expert an order of its outputs, which no packed form holds.
_MOVE_OUTPUTS = ("ot-fusion",)
_ADVICE = "export its restored experts instead (dense)"


def check_packable(
    checkpoint: Checkpoint, layers: Sequence[int], method: Method, *, keep: float, center: str, form: str | None
) -> None:
    """Refuse what cannot be packed.

    Parameters
    ----------
    checkpoint, layers
        Whose experts.
    method, keep, center
        How they will be compressed.
    form
        The form that is asked for; None: the usual one.

    Raises
    ------
    UsageError
        If the family's experts, the center or the method's pieces have no such form.
    """
    family = family_of(checkpoint)
    has_center = method.uses_center and center != "none"
    if has_center and center in _MOVE_OUTPUTS:
        raise UsageError(f"center {center!r} permutes outputs too, which no packed form holds: {_ADVICE}")
    choose_form(_outlined(family, method, keep=keep), form, has_center=has_center)
    model = empty_model(checkpoint)
    for layer in layers:
        family.activation(family.experts_module(model, layer))


def forecast_packed(
    checkpoint: Checkpoint, method: Method, *, keep: float, center: str, form: str | None, values: str
) -> int:
    """Tell the bytes that a packed layer will take, from its shape alone.

    Parameters
    ----------
    checkpoint
        Whose layer.
    method, keep, center, form
        As for :func:`check_packable`.
    values
        A key of :data:`~resmoe_lab.store.encoding.VALUE_TYPES`.
    """
    value_type(values)
    family, has_center = family_of(checkpoint), method.uses_center and center != "none"
    layer = _outlined(family, method, keep=keep)
    counts = counts_of(layer.pieces)
    form = choose_form(layer, form, has_center=has_center)
    facts: dict[str, Any] = {"form": form, "values": values, "center": has_center, "counts": counts}
    blocks = tuple((block.name, block.start, block.stop) for block in _blocks(family))
    neurons = max(1, *counts) if form == "whole" else layer.pieces[0].shape[0]
    with torch.device("meta"):
        module = outline(Spec(**facts, blocks=blocks, neurons=neurons), activation=torch.relu)
    return weigh_packed(module, original_bytes=0).true_bytes


def expert_bytes(checkpoint: Checkpoint) -> dict[int, int]:
    """Stored bytes of the experts of each layer that has a router, packed or not."""
    family, tensors = family_of(checkpoint), checkpoint.tensors
    count = family.shape(checkpoint.config).num_experts
    places = filter(None, map(family.locate, tensors))
    sizes = {}
    for layer in sorted({layer for layer, rest in places if rest == family.router}):
        prefix, keys = f"{packed_prefix(family, layer)}.", set(family.expert_keys(layer, count))
        sizes[layer] = sum(info.nbytes for name, info in tensors.items() if name.startswith(prefix) or name in keys)
    return sizes


def empty_model(checkpoint: Checkpoint) -> PreTrainedModel:
    """Build the transformers model of a checkpoint on the meta device, running no code from the folder.

    Raises
    ------
    UsageError
        If transformers does not know the model.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    options = {"local_files_only": True, "trust_remote_code": False}
    auto = AutoModelForSeq2SeqLM if checkpoint.config.get("is_encoder_decoder") else AutoModelForCausalLM
    try:
        config = AutoConfig.from_pretrained(checkpoint.folder, **options)
        with torch.device("meta"):
            model: PreTrainedModel = auto.from_config(config)
    except ValueError as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"transformers cannot run model_type {checkpoint.model_type!r} ({reason}): {_ADVICE}"
        ) from error
    return model


def _outlined(family: Family, method: Method, *, keep: float) -> CompressedLayer:
    """What the method will make of a layer, without contents."""
    return CompressedLayer(method.name, keep, method.outline(family.layer_shape(), keep), None)


def _blocks(family: Family) -> tuple[Block, ...]:
    return family.blocks(family.shape(family.config).hidden_size)
