"""What will be compressed: the layers that a text such as ``top:24`` names, and whether they can be as they should."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .._core.errors import UsageError
from ..checkpoint import Checkpoint
from ..experts import family_of
from ..runtime.packable import check_packable
from .compressed_tensors import check_compressed_tensors
from .config import CompressionConfig
from .gguf import check_gguf
from .schedule import check_scheduler


def checked_config(
    checkpoint: Checkpoint, config: CompressionConfig, *, scheduler: str | None = None
) -> CompressionConfig:
    """Return the settings for layers by their numbers, after judging all that can be judged before any work.

    Parameters
    ----------
    checkpoint
        What will be compressed; only its headers are read.
    config, scheduler
        As for :func:`~resmoe_lab.compress.compress_checkpoint`.

    Raises
    ------
    UsageError
        If a layer is not there, so little cannot be kept of one, it cannot be stored as asked for, or nobody is there
        to do the work.
    """
    config = resolve_layers(checkpoint, config)
    check_scheduler(scheduler)
    method, shape = config.make_method(), family_of(checkpoint).layer_shape()
    keeps = sorted({config.keep_of(layer) for layer in config.layer_numbers})
    for keep in keeps:
        method.layout(shape, keep, storage=config.storage, has_center=config.has_center)
    if config.export == "gguf":
        check_gguf(checkpoint, config.gguf_type.upper())
    if config.export == "compressed-tensors":
        check_compressed_tensors(checkpoint, config.layer_numbers, config.compressed_type)
    if config.export == "packed":
        layers, center, storage = config.layer_numbers, config.center, config.storage
        check_packable(checkpoint, layers, method, keep=keeps[0], center=center, storage=storage)
    return config


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
