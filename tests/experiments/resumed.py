"""A sweep of a second, and what two of them have to have in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.experiments.run_sweep import run_sweep
from resmoe_lab.experiments.sweep import Sweep

TASKS = ["storyworld_action", "storyworld_perplexity"]


def small_sweep(source: Path | str, out: Path, *, layers: tuple[int, ...] = (0,)) -> Sweep:
    """Sweep two methods over some layers of a model."""
    options = {"methods": ["up", "resmoe-up"], "keeps": [0.5], "tasks": TASKS, "limit": 4}
    return run_sweep(open_checkpoint(source), out, layers=list(layers), **options)


def same_sweep(found: Sweep, expected: Sweep) -> None:
    """Assert that two sweeps are the same to the last bit, apart from times."""
    for name in ("errors", "scores", "sizes", "routing"):
        ours, theirs = (getattr(sweep, name).reset_index(drop=True) for sweep in (found, expected))
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True, check_dtype=False)
    ours, theirs = (sweep.centers.drop(columns="seconds").reset_index(drop=True) for sweep in (found, expected))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True, check_dtype=False)
    for layer, similarity in expected.similarity.items():
        assert np.array_equal(found.similarity[layer], similarity)
        assert np.array_equal(found.permutations[layer], expected.permutations[layer])
    assert found.facts["settings"] == expected.facts["settings"]
