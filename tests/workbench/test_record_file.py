"""Records come back from disk as they were, and from nothing but values."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.workbench.record_file import load_record, save_record
from resmoe_lab.workbench.views import View, view_errors, view_experts, view_tokens, view_transport


def check_same(one: Any, other: Any) -> None:
    """Two values are the same, to the last bit and of the same kinds."""
    assert type(one) is type(other) or {type(one), type(other)} <= {dict, type(one)}
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one.reset_index(drop=True), other)
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
        assert one.dtype == other.dtype
    elif hasattr(one, "__dataclass_fields__"):
        for field in fields(one):
            check_same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            check_same(one[name], other[name])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            check_same(first, second)
    else:
        assert one == other or (one != one and other != other)


def test_every_kept_record_comes_back(tiny: Checkpoint, tmp_path: Path) -> None:
    records: list[View] = [
        view_experts(tiny, 1, routing=False),
        view_transport(tiny, 1),
        view_errors(tiny, [0, 1], methods=["up", "rtn", "resmoe-up"]),
        view_tokens(tiny, "One morning the river", method="up", keep=0.25),
    ]
    for record in records:
        path = tmp_path / f"{type(record).__name__}.npz"
        assert save_record(record, path)
        check_same(record, load_record(path, type(record)))
        assert load_record(path, int) is None, "of another kind"


@dataclass(frozen=True)
class Foreign:
    value: int = 0


def test_what_is_not_of_the_package_is_neither_written_nor_made(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Foreign is no value of a record"):
        save_record(Foreign(), tmp_path / "foreign.npz")
    for name in ("os:system", "resmoe_lab.cli:main", "tests.workbench.test_record_file:Foreign", "resmoe_lab.no:thing"):
        tree = json.dumps({"class": name, "fields": {}}).encode()
        np.savez(tmp_path / "made.npz", record=np.frombuffer(tree, dtype=np.uint8))
        assert load_record(tmp_path / "made.npz", object) is None, name


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"not an archive"])
def test_damaged_files_are_as_if_they_were_not_there(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.npz"
    path.write_bytes(content)
    assert load_record(path, object) is None
    assert load_record(tmp_path / "missing.npz", object) is None


def test_large_records_are_not_kept(tiny: Checkpoint, tmp_path: Path) -> None:
    from resmoe_lab.workbench.views import TransportView

    large = TransportView(0, "", "", np.zeros((1, 1 << 22)), pd.DataFrame(), 0.0, 0.0, None, None, "", 0.0)
    assert not save_record(large, tmp_path / "large.npz")
    assert not (tmp_path / "large.npz").exists()
