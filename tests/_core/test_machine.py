import time
from pathlib import Path

import numpy as np

from resmoe_lab._core.machine import anonymous_bytes, available_bytes, cores, machine, peak_memory

_SIZE = 1 << 26


def test_the_peak_is_seen_though_it_passes() -> None:
    with peak_memory() as peak:
        before, deadline = peak.nbytes, time.monotonic() + 60
        block = np.ones(_SIZE, dtype=np.uint8)
        while peak.nbytes < before + 0.9 * _SIZE and time.monotonic() < deadline:
            time.sleep(0.001)
        del block
    assert peak.nbytes >= before + 0.9 * _SIZE
    assert anonymous_bytes() < peak.nbytes - 0.5 * _SIZE


def test_mapped_files_cost_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(_SIZE))
    before = anonymous_bytes()
    mapped = np.memmap(tmp_path / "x", mode="r")
    assert int(mapped.sum()) == 0
    assert anonymous_bytes() - before < 0.5 * _SIZE


def test_some_memory_and_a_core_are_there() -> None:
    assert available_bytes() > 10**8
    assert cores() >= 1
    assert machine().endswith(f"{cores()} cores")
