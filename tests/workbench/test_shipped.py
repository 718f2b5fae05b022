"""Records that come with the embedded models are found by their panels, and are what these compute today."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from resmoe_lab import workbench, zoo
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.store.manifest import checkpoint_hash
from resmoe_lab.workbench import shipped
from resmoe_lab.workbench.cache import Cache
from resmoe_lab.workbench.panels.errors import DEFAULT_METHODS
from resmoe_lab.workbench.record_file import load_record, save_record
from resmoe_lab.workbench.ship import MAX_BYTES
from resmoe_lab.workbench.shipped import SHIPPED_VERSION, ShippedRecord, ship_record, shipped_path, shipped_record
from resmoe_lab.workbench.views import TransportView, view_errors, view_transport

PATIENCE = 240
PANELS = ("experts", "transport", "errors", "Explorer", "tokens", "ablation")
MODELS = tuple(sorted(zoo.RECIPES))
#: Long arrays are stored in float16, and another processor adds up in another order.
_TOLERANCE = 2e-3
#: Fields that tell how long something took, and on which machine.
_OF_THE_RUN = {"seconds"}
_PACKAGED = shipped_path  # before a fixture points it elsewhere


@pytest.fixture
def packaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels find what comes with the package, and nothing in memory."""
    monkeypatch.setattr(shipped, "shipped_path", _PACKAGED)
    _forget(monkeypatch)


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Cache(8)
    for module in ("_base", "_live"):
        monkeypatch.setattr(f"resmoe_lab.workbench.panels.{module}.VIEWS", empty)


def _never(*arguments: object, **options: object) -> Any:
    raise AssertionError("it is computed")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", PANELS)
def test_panels_of_embedded_models_open_with_what_comes_with_them(
    model: str, name: str, packaged: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = getattr(workbench, name)
    monkeypatch.setattr(kind, "_computation", lambda panel: _never)
    panel = kind(model).wait(PATIENCE)
    assert panel.mark.value.startswith("<span class='resmoe-mark'>came with the package · computed at ")
    for picture in panel.pictures.values():
        assert bytes(picture.png).startswith(b"\x89PNG")
    record: ShippedRecord = load_record(_PACKAGED(model, name), ShippedRecord)
    assert record.checkpoint == checkpoint_hash(open_checkpoint(model))
    assert _PACKAGED(model, name).stat().st_size <= MAX_BYTES


def test_no_record_is_of_no_panel() -> None:
    found = {(path.parents[1].name, path.stem) for path in zoo.data_folder().glob("zoo/*/panels/*")}
    assert found == {(model, name) for model in MODELS for name in PANELS}


def check_close(found: Any, expected: Any, place: str) -> None:
    """Two values tell the same: numbers nearly, words exactly."""
    if isinstance(expected, torch.Tensor):
        check_close(np.asarray(found), expected.numpy(), place)
    elif isinstance(expected, pd.DataFrame):
        assert list(found) == list(expected), place
        for column in set(expected) - _OF_THE_RUN:
            check_close(found[column].to_numpy(), expected[column].to_numpy(), f"{place}.{column}")
    elif isinstance(expected, np.ndarray) and expected.dtype.kind == "f":
        bound = _TOLERANCE * max(float(np.nanmax(np.abs(expected), initial=0)), 1e-12)
        np.testing.assert_allclose(found, expected, rtol=_TOLERANCE, atol=bound, err_msg=place)
    elif isinstance(expected, np.ndarray):
        assert found.shape == expected.shape, place
        assert (found == expected).mean() > 0.99 or not expected.size, place  # near ties are settled by the last bit
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=_TOLERANCE, nan_ok=True), place
    elif hasattr(expected, "__dataclass_fields__"):
        for name in {field.name for field in fields(expected)} - _OF_THE_RUN:
            check_close(getattr(found, name), getattr(expected, name), f"{place}.{name}")
    elif isinstance(expected, dict):
        assert list(found) == list(expected), place
        for name in expected:
            check_close(found[name], expected[name], f"{place}[{name!r}]")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), place
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            check_close(one, other, f"{place}[{number}]")
    else:
        assert found == expected, place


def test_error_curves_of_a_layer_are_what_is_computed_today(tiny: Checkpoint) -> None:
    record = load_record(_PACKAGED("mixtral-tiny", "errors"), ShippedRecord).record
    own = view_errors(tiny, [0], methods=DEFAULT_METHODS)
    for name, across in (("errors", "keep"), ("equal_bytes", "share")):
        kept, computed = (view.tables()[name].query("layer == 0") for view in (record, own))
        order = ["method", "center", across]
        both = [table.sort_values(order).reset_index(drop=True) for table in (kept, computed)]
        check_close(*both, name)


@pytest.mark.parametrize("name", [name for name in PANELS if name != "errors"])
def test_records_are_what_panels_compute_today(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails because a panel has learnt better: `make zoo-results`, and look at what has changed."""
    _forget(monkeypatch)
    panel = getattr(workbench, name)("mixtral-tiny").wait(PATIENCE)
    assert "fresh" in panel.mark.value
    check_close(load_record(_PACKAGED("mixtral-tiny", name), ShippedRecord).record, panel.view, name)


@pytest.fixture
def record(tiny: Checkpoint) -> TransportView:
    return view_transport(tiny, 1)


_KEY = (1, "wasserstein", "a key")


def _written(tiny: Checkpoint, record: TransportView) -> tuple[Path, ShippedRecord]:
    path = ship_record(tiny, "transport", _KEY, record)
    return path, load_record(path, ShippedRecord)


def test_a_record_comes_back_with_its_date(tiny: Checkpoint, record: TransportView) -> None:
    _written(tiny, record)
    found = shipped_record(tiny, "transport", _KEY)
    assert found is not None
    assert not found.fresh
    assert found.value.objective == record.objective
    assert shipped_record(tiny, "experts", _KEY) is None
    assert shipped_record(tiny, "transport", (2, *_KEY[1:])) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda record: replace(record, version=SHIPPED_VERSION + 1),
        lambda record: replace(record, checkpoint="078f" * 8),
        lambda record: replace(record, key="()"),
        lambda record: replace(record, date="yesterday"),
        lambda record: replace(record, date=None),
        lambda record: replace(record, record=None),
        lambda record: record.record,
    ],
)
def test_records_of_something_else_are_passed_over(
    change: Callable[[Any], Any], tiny: Checkpoint, record: TransportView
) -> None:
    path, written = _written(tiny, record)
    save_record(change(written), path)
    assert shipped_record(tiny, "transport", _KEY) is None


def test_damaged_records_are_passed_over(tiny: Checkpoint, record: TransportView) -> None:
    path, _ = _written(tiny, record)
    content = path.read_bytes()
    for place in range(0, len(content), 97):
        path.write_bytes(content[:place])
        assert shipped_record(tiny, "transport", _KEY) is None, place
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        found = shipped_record(tiny, "transport", _KEY)
        assert found is None or found.value.objective == record.objective, place  # no part of the record


def test_other_models_have_none(pico_checkpoint: Checkpoint) -> None:
    assert shipped_record(pico_checkpoint, "transport", _KEY) is None


def test_what_is_asked_for_again_is_computed_and_kept(packaged: None, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = workbench.transport("mixtral-tiny").wait(PATIENCE)
    assert "came with the package" in panel.mark.value
    panel.again.click()
    panel.wait(PATIENCE)
    assert "fresh" in panel.mark.value
    _forget(monkeypatch)
    another = workbench.transport("mixtral-tiny").wait(PATIENCE)
    assert "cached · computed at" in another.mark.value
