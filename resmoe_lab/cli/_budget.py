"""Budgets of bytes, in the words that users have for them."""

from __future__ import annotations

import re
from typing import Any

from .._core.errors import UsageError
from .._core.params import keep_of_bits

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_LIKE = re.compile(r"([a-z0-9-]*[a-z-])([0-9]+(?:\.[0-9]+)?)")


def parse_size(text: str) -> int:
    """Return the bytes of a size such as ``4GB`` or ``3.5GiB``.

    Raises
    ------
    UsageError
        If it is none.

    Examples
    --------
    >>> parse_size("1.5 GB"), parse_size("2MiB")
    (1500000000, 2097152)
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].upper() not in _UNITS:
        raise UsageError(f"--size {text!r}, expected a number and a unit, such as 4GB or 3.5GiB")
    nbytes = int(float(match[1]) * _UNITS[match[2].upper()])
    if nbytes < 1:
        raise UsageError(f"--size {text!r}, expected at least one byte")
    return nbytes


def like_budget(checkpoint: Any, config: Any, like: str) -> int:
    """Return the bytes that all layers take in another method, such as ``rtn4``.

    Raises
    ------
    UsageError
        If there is no such method, or it does not go by bits.
    """
    from ..experts import family_of
    from ..methods import METHODS, forecast_ledger

    match = _LIKE.fullmatch(like)
    if match is None or match[1] not in METHODS or not METHODS[match[1]].method.by_bits:
        known = ", ".join(name for name in METHODS if METHODS[name].method.by_bits)
        raise UsageError(f"--like {like!r}, expected a method and its bits, such as rtn4: one of {known}")
    method, bits = METHODS[match[1]](), float(match[2])
    method.check_bits(bits)
    ledger = forecast_ledger(method, family_of(checkpoint).layer_shape(), keep=keep_of_bits(bits))
    return ledger.true_bytes * len(config.layer_numbers)


def size_budget(checkpoint: Any, config: Any, size: str) -> int:
    """Return the bytes that are left for the compressed layers in files of a given size.

    Raises
    ------
    UsageError
        If the rest alone takes more.
    """
    from ..experts import family_of
    from ..runtime.rest import saved_bytes

    family, nbytes = family_of(checkpoint), parse_size(size)
    experts = sum(family.expert_bytes(checkpoint, layer) for layer in config.layer_numbers)
    rest = checkpoint.total_bytes - experts - saved_bytes(checkpoint, config.rest)
    if nbytes <= rest:
        raise UsageError(
            f"--size {size}: what is not compressed takes {rest:,} bytes already, expected more than that: "
            "compress more layers, or allow more"
        )
    return nbytes - rest
