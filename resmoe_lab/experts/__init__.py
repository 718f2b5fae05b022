"""Expert stacks, and the model families that have them, one file each."""

from collections.abc import Mapping
from typing import Any

from .._core.errors import CheckpointError
from ..checkpoint import Checkpoint
from ._base import FAMILIES as FAMILIES
from ._base import Family as Family
from ._stack import Block as Block
from ._stack import ExpertStack as ExpertStack
from ._stack import LayerShape as LayerShape


def family_of(checkpoint: Checkpoint) -> Family:
    """Return the family of a checkpoint.

    Raises
    ------
    CheckpointError
        If no family has its ``model_type``, or its weights are quantized.
    """
    quantization = checkpoint.config.get("quantization_config") or {}
    method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
    if quantization and method != "resmoe":
        raise CheckpointError(
            f"{checkpoint.folder} is quantized ({method}), expected 16 or 32 bit weights: "
            "use the unquantized checkpoint"
        )
    return family_of_config(checkpoint.config, where=str(checkpoint.folder))


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
    raise CheckpointError(f"{where} has model_type {model_type or 'none at all'!r}, expected one of: {supported}")


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
