"""What will be compressed: the layers that a text such as ``top:24`` names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .._core.errors import UsageError
from ..checkpoint import Checkpoint
from ..experts import family_of
from .config import CompressionConfig


def resolve_layers(checkpoint: Checkpoint, config: CompressionConfig) -> CompressionConfig:
    """Return the settings with the numbers of the layers in place of the words for them.

    Raises
    ------
    UsageError
        If a layer is not there.
    """
    family = family_of(checkpoint)
    if isinstance(config.layers, str):
        return config.with_layers(select_layers(config.layers, family.layers(checkpoint)))
    family.check_layers(checkpoint, config.layers)
    return config


def select_layers(spec: str, available: Sequence[int]) -> list[int]:
    """Return the layers that a specification names.

    Parameters
    ----------
    spec
        ``all``, ``top:24`` (the last 24, as the paper does for Mixtral), ``8-31`` or ``0,2,4``.
    available
        The model's MoE layers, in order.

    Returns
    -------
    list of int
        Their indices, in order.

    Raises
    ------
    UsageError
        If the text is not of that form, or names a layer that is not there.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> rl.select_layers("top:2", rl.moe_layers(rl.open_checkpoint("mixtral-tiny")))
    [2, 3]
    """
    spec = spec.strip()
    if spec == "all":
        return list(available)
    if match := re.fullmatch(r"top:(\d+)", spec):
        count = int(match[1])
        if not 1 <= count <= len(available):
            raise UsageError(f"layers {spec!r} asks for {count}, expected 1 to {len(available)}")
        return list(available)[-count:]
    layers: set[int] = set()
    for piece in spec.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", piece)
        if not match:
            raise UsageError(f"layers {spec!r} is not understood, expected all, top:24, 8-31 or 0,2,4")
        first, last = int(match[1]), int(match[2] or match[1])
        # Compared with what is there before a range is written out: '0-999999999' costs nothing.
        missing = next((layer for layer in (first, last) if layer not in available), None)
        if missing is not None or first > last:
            raise UsageError(
                f"layers {spec!r}: no layer {missing if missing is not None else piece!r} with experts, "
                f"expected some of {_short(available)}"
            )
        layers.update(layer for layer in available if first <= layer <= last)
    return sorted(layers)


def _short(layers: Sequence[int]) -> str:
    if list(layers) == list(range(layers[0], layers[-1] + 1)) and len(layers) > 2:
        return f"{layers[0]}-{layers[-1]}"
    return ", ".join(map(str, layers))
