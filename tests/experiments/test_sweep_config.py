"""The settings of a sweep: what they refuse, and what a folder is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import resmoe_lab as rl
from resmoe_lab._core.errors import OutputError, UsageError
from resmoe_lab.checkpoint import Checkpoint

SETTINGS: dict[str, Any] = {
    "layers": [0],
    "methods": ["up"],
    "keeps": [0.25],
    "tasks": ["storyworld_action"],
    "limit": 2,
}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"keeps": [0.0]}, "keep is 0"),
        ({"bits": [float("nan")]}, "bits"),
        ({"methods": ["uppp"]}, "uppp"),
        ({"center": "midpoint"}, "midpoint"),
        ({"layers": ["first"]}, "layers.0: .* found 'first'"),
        ({"methods": ["rtn"], "bits": [1.5]}, "nothing to compare"),
        ({"seed": -1}, "seed"),
        ({"keep": [0.5]}, "keep: Extra inputs are not permitted"),
    ],
)
def test_it_refuses_what_is_not_allowed(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        rl.SweepConfig(**SETTINGS | wrong)


def test_a_config_and_its_settings_are_the_same_sweep(tiny: Checkpoint, tmp_path: Path) -> None:
    """The folder of one is that of the other; both at once are refused, and so is the folder of another config."""
    config = rl.SweepConfig(**SETTINGS)
    first = rl.run_sweep(tiny, tmp_path / "out", config)
    again = rl.run_sweep(tiny, tmp_path / "out", **SETTINGS)
    assert again.facts == first.facts
    assert first.facts["settings"]["keeps"] == [0.25]
    with pytest.raises(UsageError, match="settings limit beside a config"):
        rl.run_sweep(tiny, tmp_path / "out", config, limit=3)
    with pytest.raises(OutputError, match=r"made with keeps \[0.25\] \(now \[0.5\]\)"):
        rl.run_sweep(tiny, tmp_path / "out", rl.SweepConfig(**SETTINGS | {"keeps": [0.5]}))


def test_bits_are_told_only_where_a_method_goes_by_them(tiny: Checkpoint) -> None:
    """So that folders of sweeps without such methods are gone on with whatever the default bits are."""
    plain = rl.SweepConfig(**SETTINGS).manifest_settings(tiny, None)
    assert not {"bits", "calibration", "tokens", "usage"} & plain.keys()
    rounded = rl.SweepConfig(**SETTINGS | {"methods": ["rtn"], "bits": [3]}).manifest_settings(tiny, "trace.npz")
    assert (rounded["bits"], rounded["usage"]) == ([3], "trace.npz")
