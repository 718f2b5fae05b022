"""Expert stacks, and one file for each model family that has them."""

from ..checkpoint import Checkpoint
from ._base import FAMILIES as FAMILIES
from ._base import Family as Family
from ._base import family_of as family_of
from ._stack import Block as Block
from ._stack import ExpertStack as ExpertStack
from ._stack import LayerShape as LayerShape


def moe_layers(checkpoint: Checkpoint) -> list[int]:
    """Return the numbers of a checkpoint's layers that have experts, in order.

    Raises
    ------
    CheckpointError
        If the family is unknown or there is no such layer.
    """
    return family_of(checkpoint).layers(checkpoint)


def load_stack(checkpoint: Checkpoint, *, layer: int, device: str = "cpu") -> ExpertStack:
    """Load the experts of one layer as float32 design matrices.

    Parameters
    ----------
    checkpoint
        Where they are stored.
    layer
        Number of a layer that has experts.
    device
        Where the (N, p_I, D) tensor goes.

    Raises
    ------
    UsageError
        If the layer does not exist or has no experts.
    WeightError
        If a shape is not what the config says, or a weight is NaN or infinite.
    """
    return family_of(checkpoint).load(checkpoint, layer, device=device)
