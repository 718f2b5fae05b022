from __future__ import annotations

import pytest

from resmoe_lab._core.units import human_bytes


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (11_800_000, "11.3 MiB"), (93 * 2**30, "93 GiB")],
)
def test_bytes_read_well(count: int, text: str) -> None:
    assert human_bytes(count) == text
