"""Expert stacks, and the model families that have them, one file each."""

from collections.abc import Mapping
from typing import Any

from .._core.errors import CheckpointError
from ..checkpoint import Checkpoint
from ..checkpoint.codecs import CODECS
from ._base import FAMILIES as FAMILIES
from ._base import Family as Family
from ._derived import derive_family, fused_on_disk
from ._layout import copy_block as copy_block
from ._stack import Block as Block
from ._stack import ExpertStack as ExpertStack
from ._stack import LayerShape as LayerShape
from ._transformers import config_of as config_of
from ._transformers import described_types as described_types
from ._transformers import empty_model as empty_model
from ._transformers import model_class as model_class


def family_of(checkpoint: Checkpoint) -> Family:
    """Return the family of a checkpoint.

    Raises
    ------
    CheckpointError
        If no family has its ``model_type``, or its weights are quantized.
    """
    where = str(checkpoint.folder)
    if not checkpoint.packed and (unread := _unread(checkpoint)):
        try:
            family_of_config(checkpoint.config, where=where)
        except CheckpointError as error:
            unread += f"; besides, its {str(error).removeprefix(f'{where} has ')}"
        raise CheckpointError(f"{where} {unread}")
    family = family_of_config(checkpoint.config, where=where)
    return family if checkpoint.packed else fused_on_disk(type(family), checkpoint)(checkpoint.config)


def _unread(checkpoint: Checkpoint) -> str:
    """What no codec reads, in words; empty where all is read."""
    left = [name for name, info in checkpoint.tensors.items() if info.encoded is None and info.quantized]
    if not left:
        return ""
    method = checkpoint.quantization.get("quant_method")
    info = checkpoint.tensors[left[0]]
    return (
        f"is quantized ({method or 'its config does not say how'}): {left[0]!r} is {info.dtype} {info.shape}, expected "
        f"floats, or an encoding that is read ({', '.join(CODECS.names())}) with its scales: use the "
        "unquantized checkpoint"
    )


def family_of_config(config: Mapping[str, Any], *, where: str) -> Family:
    """Return the family of a config, found by its ``model_type``.

    Parameters
    ----------
    config
        The config of a checkpoint or of a transformers model.
    where
        What the config belongs to, for the error message.

    Raises
    ------
    CheckpointError
        If no family has this ``model_type``.
    """
    model_type, families = config.get("model_type"), [FAMILIES[name] for name in FAMILIES.names()]
    for family in families:
        if model_type in family.model_types:
            return family(config)
    supported = ", ".join(model_type for family in families for model_type in family.model_types)
    try:
        return derive_family(config)(config)
    except CheckpointError as error:
        raise CheckpointError(
            f"{where} has model_type {model_type or 'none at all'!r}, expected one of: {supported}; or one whose "
            f"experts transformers describes ({error})"
        ) from error


def moe_layers(checkpoint: Checkpoint) -> list[int]:
    """Return the indices of a checkpoint's MoE layers, in order.

    Parameters
    ----------
    checkpoint
        From :func:`~resmoe_lab.open_checkpoint`.

    Returns
    -------
    list of int
        Layer indices; in encoder-decoders, those of the decoder follow those of the encoder.

    Raises
    ------
    CheckpointError
        If the family is unknown or there is no such layer.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> rl.moe_layers(rl.open_checkpoint("mixtral-tiny"))
    [0, 1, 2, 3]
    """
    return family_of(checkpoint).layers(checkpoint)


def load_stack(checkpoint: Checkpoint, *, layer: int, device: str = "cpu") -> ExpertStack:
    """Load the experts of one layer as float32 design matrices.

    Parameters
    ----------
    checkpoint
        From :func:`~resmoe_lab.open_checkpoint`.
    layer
        Index of an MoE layer.
    device
        Device of the (N, p_I, D) tensor.

    Returns
    -------
    ExpertStack
        The design matrices and the names of their column blocks.

    Raises
    ------
    UsageError
        If the layer does not exist or has no experts.
    WeightError
        If a shape contradicts the config, or a weight is NaN or infinite.

    References
    ----------
    ResMoE, appendix B.3 (the extended matrix W_k).

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> stack = rl.load_stack(rl.open_checkpoint("mixtral-tiny"), layer=0)
    >>> stack.weights.shape
    torch.Size([8, 448, 384])
    >>> [block.name for block in stack.blocks]
    ['w1', 'w3', 'w2']
    """
    return family_of(checkpoint).load(checkpoint, layer, device=device)
