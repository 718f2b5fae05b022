"""What can be packed, and how many bytes that takes: known from a checkpoint's config, before any work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._core.errors import CheckpointError, UsageError
from ..centers import CENTERS
from ..checkpoint import Checkpoint
from ..experts import config_of, family_of
from ..experts import empty_model as empty_model_of
from ..methods import Method
from ..store.layout import Storage
from .packing import packed_ledger, packed_prefix

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_ADVICE = "export its restored experts instead (dense)"


def check_packable(
    checkpoint: Checkpoint, layers: Sequence[int], method: Method, *, keep: float, center: str, storage: Storage
) -> None:
    """Refuse what cannot be packed.

    Parameters
    ----------
    checkpoint, layers
        Whose experts.
    method, keep, center
        How they will be compressed.
    storage
        How they will be stored.

    Raises
    ------
    UsageError
        If the family's experts, the center or the method's matrices have no such form.
    """
    family = family_of(checkpoint)
    has_center = method.uses_center and CENTERS[center].stored
    if has_center and CENTERS[center].permutes_outputs:
        raise UsageError(f"center {center!r} permutes outputs too, which no packed form holds: {_ADVICE}")
    method.layout(family.layer_shape(), keep, storage=storage, has_center=has_center)
    model = empty_model(checkpoint)
    for layer in layers:
        family.activation(family.experts_module(model, layer))


def forecast_packed(checkpoint: Checkpoint, method: Method, *, keep: float, center: str, storage: Storage) -> int:
    """Return the bytes that a packed layer will take, from its shape alone.

    Parameters
    ----------
    checkpoint
        Whose layer.
    method, keep, center, storage
        As for :func:`check_packable`.
    """
    has_center = method.uses_center and CENTERS[center].stored
    layout = method.layout(family_of(checkpoint).layer_shape(), keep, storage=storage, has_center=has_center)
    return packed_ledger(layout, original_bytes=0).true_bytes


def expert_bytes(checkpoint: Checkpoint) -> dict[int, int]:
    """Return the stored bytes of the experts of each layer that has a router, packed or not."""
    family, tensors = family_of(checkpoint), checkpoint.tensors
    count = family.shape(checkpoint.config).num_experts
    sizes = {}
    for layer in family.routed_layers(tensors):
        prefix, keys = f"{packed_prefix(family, layer)}.", set(family.expert_keys(layer, count))
        sizes[layer] = sum(info.nbytes for name, info in tensors.items() if name.startswith(prefix) or name in keys)
    return sizes


def model_config(checkpoint: Checkpoint) -> PretrainedConfig:
    """Return the transformers config of a checkpoint; of one that codecs decode, without its quantization.

    Raises
    ------
    ValueError
        If transformers does not know the model.
    """
    from transformers import AutoConfig

    path = checkpoint.config_file
    if path is None or json.loads(path.read_text("utf-8")) != checkpoint.config:
        return config_of(checkpoint.config)
    return AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False)


def empty_model(checkpoint: Checkpoint) -> PreTrainedModel:
    """Build the transformers model of a checkpoint on the meta device, running no code from the folder.

    Raises
    ------
    UsageError
        If transformers does not know the model.
    """
    try:
        return empty_model_of(checkpoint.config)
    except CheckpointError as error:
        raise UsageError(
            f"transformers cannot run model_type {checkpoint.model_type!r} ({error}): {_ADVICE}"
        ) from error
