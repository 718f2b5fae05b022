"""What bench measures is there, and of the right way."""

from pathlib import Path

import pytest

from resmoe_lab._core.errors import UsageError
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint
from resmoe_lab.runtime.bench import bench

SHORT = {"prompt": 5, "new": 2, "rounds": 1}


def packed(checkpoint: Checkpoint, out: Path, method: str) -> Checkpoint:
    compress_checkpoint(checkpoint, out, CompressionConfig(layers=[0, 1], method=method, keep=0.5))
    return open_checkpoint(out)


def test_every_way_is_measured(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    smaller = packed(pico_checkpoint, tmp_path / "out", "sp")
    rows = {row.way: row for row in bench(smaller, original=str(pico_checkpoint.folder), **SHORT)}
    assert list(rows) == ["original", "restored", "factored"]
    assert rows["original"].weight_bytes > rows["factored"].weight_bytes == rows["restored"].weight_bytes
    for row in rows.values():
        assert row.tokens_per_second > 0
        assert row.prompt_tokens_per_second == pytest.approx(5 / row.first_token_seconds)
        assert row.peak_bytes >= row.resident_bytes


def test_what_cannot_run_is_not_measured(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    sparse = packed(pico_checkpoint, tmp_path / "out", "resmoe-up")
    original = str(pico_checkpoint.folder)
    assert [row.way for row in bench(sparse, original=original, ways=["restored"], **SHORT)] == ["restored"]
    with pytest.raises(UsageError, match="cannot run 'factored', expected some of original, restored"):
        bench(sparse, original=original, ways=["factored"])
    with pytest.raises(UsageError, match="cannot run 'restored', expected some of original"):
        bench(pico_checkpoint, ways=["restored"])
    with pytest.raises(UsageError, match="0 prompt tokens"):
        bench(pico_checkpoint, prompt=0)
