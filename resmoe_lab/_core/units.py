"""Counts of bytes for readers."""

from __future__ import annotations

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def human_bytes(count: float) -> str:
    """Return a count of bytes in binary units, with three significant digits."""
    for size, unit in _UNITS:
        if abs(count) >= size:
            return f"{count / size:.3g} {unit}" if count / size < 1000 else f"{count / size:,.0f} {unit}"
    return f"{count:g} bytes"
