from __future__ import annotations

from pathlib import Path

import pytest

from resmoe_lab._core.errors import CheckpointError, UsageError
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.workbench import Selection
from resmoe_lab.workbench.selection import select

from ..experts import pico


def test_it_begins_at_the_first_layer_and_takes_what_it_is_given(pico_checkpoint: Checkpoint) -> None:
    assert Selection(pico_checkpoint).layer == 0
    selection = Selection(pico_checkpoint, layer=1, keep=0.5, method="svd")
    assert (selection.layer, selection.keep, selection.method) == (1, 0.5, "svd")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layer", 7, "layer 7 has no experts"),
        ("expert", 99, "expert is 99"),
        ("method", "resmoe-upp", "did you mean resmoe-up"),
        ("center", "nothing", "unknown center"),
        ("keep", 1.5, "keep is 1.5"),
        ("nonsense", 1, "has no 'nonsense'"),
    ],
)
def test_what_is_not_there_cannot_be_chosen(
    pico_checkpoint: Checkpoint, name: str, value: object, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Selection(pico_checkpoint, **{name: value})


def test_another_checkpoint_keeps_what_it_also_has(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    selection = Selection(pico_checkpoint, layer=1, expert=2)
    changes = []
    selection.observe(lambda change: changes.append((change["name"], selection.layer)), names=["checkpoint", "layer"])
    selection.open(pico.save(pico.mixtral(), tmp_path / "other"))
    assert (selection.layer, selection.expert) == (1, 2)
    assert changes == [("checkpoint", 1)]


def test_a_failed_opening_changes_nothing(pico_checkpoint: Checkpoint) -> None:
    selection = Selection(pico_checkpoint)
    with pytest.raises(CheckpointError):
        selection.open("/no/such/checkpoint")
    assert selection.checkpoint is pico_checkpoint


def test_a_shared_selection_is_the_same_one(pico_checkpoint: Checkpoint) -> None:
    selection = Selection(pico_checkpoint)
    assert select(selection, layer=1) is selection
    assert selection.layer == 1
