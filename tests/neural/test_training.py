"""The loop: what stops it, what it keeps, and that a resumed training is the same training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from resmoe_lab._core.errors import Cancelled, UsageError
from resmoe_lab._core.progress import Tick
from resmoe_lab.neural import SOLVERS, DivergenceError, Problem, solve, train

_QUICK = {"steps": 12, "batch": 20}


class _StopAt:
    """Cancels at a step."""

    def __init__(self, step: int) -> None:
        self.step, self.ticks = step, []

    def __call__(self, tick: Tick) -> None:
        self.ticks.append(tick)
        if tick.done == self.step:
            raise Cancelled("stopped")


def test_a_stopped_training_goes_on_to_the_very_same_end(gaussians: Problem, tmp_path: Path) -> None:
    uninterrupted = solve(gaussians, "nwb", **_QUICK)
    path = tmp_path / "nwb.safetensors"
    with pytest.raises(Cancelled):
        solve(gaussians, "nwb", out=path, progress=_StopAt(5), **_QUICK)
    renderer = _StopAt(99)
    resumed = solve(gaussians, "nwb", out=path, progress=renderer, **_QUICK)
    assert renderer.ticks[0].done == 5
    assert [row["step"] for row in resumed.history] == list(range(1, 13))
    assert torch.equal(uninterrupted.solver.sample(50), resumed.solver.sample(50))
    assert solve(gaussians, "nwb", out=path, **_QUICK).seconds == pytest.approx(resumed.seconds)


def test_the_seed_decides(gaussians: Problem) -> None:
    first, same, other = (solve(gaussians, "nwb", seed=seed, **_QUICK).solver.sample(20) for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_training_leaves_torchs_own_generator_alone(gaussians: Problem) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    solve(gaussians, "not", steps=2, batch=8)
    assert torch.equal(torch.get_rng_state(), before)


def test_divergence_says_at_which_step_and_keeps_the_last_good_state(gaussians: Problem, tmp_path: Path) -> None:
    solver = SOLVERS["nwb"](gaussians, SOLVERS["nwb"].settings_type(**_QUICK))
    honest = solver._step
    solver._step = lambda: float("nan") if solver.done == 7 else honest()
    path = tmp_path / "state.safetensors"
    with pytest.raises(
        DivergenceError, match=r"nwb diverged at step 8 \(the loss is nan\); the state of step 7 is kept"
    ):
        train(solver, out=path)
    assert solver.done == 7
    assert bool(solver.sample(50).isfinite().all())
    assert path.is_file()


def test_a_training_that_runs_away_is_noticed(gaussians: Problem) -> None:
    with pytest.raises(DivergenceError, match="lower the learning rate"):
        solve(gaussians, "not", steps=60, batch=16, learning_rate=1e6)


def test_a_plateau_ends_it_and_movement_does_not(gaussians: Problem) -> None:
    assert solve(gaussians, "nwb", tolerance=1e9, **_QUICK).history[-1]["step"] == 3
    assert solve(gaussians, "nwb", tolerance=1e-30, **_QUICK).stopped == "steps"


def test_a_checkpoint_of_another_training_is_not_taken(gaussians: Problem, tmp_path: Path) -> None:
    path = tmp_path / "nwb.safetensors"
    solve(gaussians, "nwb", out=path, **_QUICK)
    with pytest.raises(UsageError, match="holds another training"):
        solve(gaussians, "nwb", out=path, seed=1, **_QUICK)


def test_a_checkpoint_is_written_as_time_goes_by(
    gaussians: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resmoe_lab.neural.training.SAVE_SECONDS", 0.0)
    path = tmp_path / "folder" / "nwb.safetensors"
    written = []
    solve(gaussians, "nwb", out=path, progress=lambda tick: written.append(path.is_file()), **_QUICK)
    assert written[:2] == [False, False]
    assert all(written[2:])


@pytest.mark.parametrize(
    ("solver", "settings", "said"),
    [
        ("nwbb", {}, "did you mean nwb"),
        ("nwb", {"stepps": 3}, "expected some of steps, batch"),
        ("nwb", {"steps": 0}, "must be positive"),
        ("not", {"plan": "wild"}, "expected one of deterministic"),
    ],
)
def test_what_cannot_be_trained_is_refused(gaussians: Problem, solver: str, settings: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        solve(gaussians, solver, **settings)
