"""Budgets of bytes in the words that users have for them."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import pytest

from resmoe_lab import cli
from resmoe_lab._core.errors import UsageError
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.cli._budget import like_budget, parse_size, size_budget
from resmoe_lab.compress import CompressionConfig, compress_checkpoint
from resmoe_lab.compress.plan import resolve_layers


@pytest.mark.parametrize(
    ("text", "nbytes"), [("4GB", 4 * 10**9), ("1.5 mib", 3 * 2**19), ("1234", 1234), ("2TB", 2 * 10**12), ("7b", 7)]
)
def test_sizes(text: str, nbytes: int) -> None:
    assert parse_size(text) == nbytes


@pytest.mark.parametrize("text", ["", "GB", "-4GB", "4 XB", "nan", "inf", "1e9", "0", "0.2B", "4GB 2"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--size"):
        parse_size(text)


@pytest.mark.parametrize("like", ["rtn", "4", "foo4", "up4", "rtn9", "rtn2.5", "../rtn4", ""])
def test_what_is_like_nothing_is_refused(like: str, tiny: Checkpoint) -> None:
    with pytest.raises(UsageError):
        like_budget(tiny, resolve_layers(tiny, CompressionConfig()), like)


def test_no_more_bytes_than_another_method_takes(tiny: Checkpoint, tmp_path: Path) -> None:
    config = resolve_layers(tiny, CompressionConfig(method="rtn", bits=3, layers="0"))
    rounded = compress_checkpoint(tiny, tmp_path / "rtn", config)
    budget = like_budget(tiny, config, "rtn3")
    assert rounded["bytes"] == budget


def test_files_are_no_larger_than_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = ["compress", "mixtral-tiny", "--method", "resmoe-coded", "--size", "3.2MB", "--out", str(out), "--json"]
    monkeypatch.setattr(sys, "argv", ["resmoe-lab", *words])
    with contextlib.suppress(SystemExit):
        cli.main()
    facts = json.loads(capsys.readouterr().out)
    weights = open_checkpoint(out).total_bytes
    assert 0.99 * 3.2e6 < weights <= 3.2e6
    assert facts["keep"] < 0.15


def test_what_is_not_compressed_has_to_fit(tiny: Checkpoint) -> None:
    config = resolve_layers(tiny, CompressionConfig(layers="0"))
    with pytest.raises(UsageError, match=r"takes [\d,]+ bytes already, expected more than that"):
        size_budget(tiny, config, "1MB")
