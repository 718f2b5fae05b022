"""A routing trace in place of calibration text: no model runs, and the manifest tells which trace it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resmoe_lab import cli
from resmoe_lab._core.errors import DataError, OutputError, UsageError
from resmoe_lab.centers import find_center
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.experts import load_stack
from resmoe_lab.scoring.usage_trace import read_usage

from ..scoring.test_usage_trace import make_trace


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    np.savez(tmp_path / "trace.npz", make_trace())
    return tmp_path / "trace.npz"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a verb, with a model that must not be loaded, and return its JSON object."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the model is loaded")

    monkeypatch.setattr("resmoe_lab.runtime.load_pair", refuse)
    monkeypatch.setattr("resmoe_lab.experiments._forms.load_pair", refuse)

    def verb(*words: object) -> Any:
        cli.app([*map(str, words), "--json"], exit_on_error=False, result_action="return_value")
        return json.loads(capsys.readouterr().out)

    return verb


def test_a_center_is_weighted_by_a_trace(run: Any, trace: Path, tiny: Checkpoint) -> None:
    facts = run("barycenter", "mixtral-tiny", "--layer", 2, "--center", "wasserstein-usage", "--usage", trace)
    statistics = read_usage(trace, tiny).statistics([2])[2]
    center = find_center(load_stack(tiny, layer=2), center="wasserstein-usage", statistics=statistics)
    assert facts["objective"] == pytest.approx(center.objective, rel=1e-6)
    with pytest.raises(UsageError, match="'wasserstein-fisher' needs calibration statistics"):
        run("barycenter", "mixtral-tiny", "--layer", 2, "--center", "wasserstein-fisher", "--usage", trace)


def test_a_diagnosis_goes_by_a_trace_and_runs_no_model(run: Any, trace: Path, tiny: Checkpoint) -> None:
    words = ["diagnose", "mixtral-tiny", "--layers", "1", "--usage", trace, "--centers"]
    [layer] = run(*words, "average,wasserstein-usage")["layers"]
    counts = np.bincount(make_trace()[:, 1].ravel(), minlength=8)
    load = layer["routing_load"]
    assert (load["smallest"], load["largest"]) == pytest.approx((counts.min() / 100, counts.max() / 100))
    assert load["source"].startswith("routing trace trace.npz (")
    assert load["tokens"] == 50
    stack = load_stack(tiny, layer=1)
    center = find_center(stack, center="wasserstein-usage", statistics=read_usage(trace, tiny).statistics([1])[1])
    gain = 1 - center.objective / stack.mean_squared_norm()
    assert layer["residual_gain"]["wasserstein-usage"] == pytest.approx(gain, rel=1e-6)
    with pytest.raises(AssertionError, match="the model is loaded"):  # Fisher information is in no trace
        run(*words, "wasserstein-fisher")
    with pytest.raises(UsageError, match="'wasserstein-fisher' needs calibration statistics and has none"):
        run(*words, "wasserstein-fisher", "--no-routing")


def test_a_run_is_that_of_its_trace(run: Any, trace: Path, tmp_path: Path) -> None:
    words = ["compress", "mixtral-tiny", "--layers", "1", "--center", "wasserstein-usage", "--out", tmp_path / "out"]
    run(*words, "--usage", trace)
    settings = json.loads((tmp_path / "out" / "resmoe_manifest.json").read_text())["settings"]
    assert settings["usage"].startswith("routing trace trace.npz (")
    assert settings["calibration"] is None
    np.savez(tmp_path / "trace.npz", make_trace(seed=1))
    with pytest.raises(OutputError, match=r"holds another result, made with usage 'routing trace trace.npz"):
        run(*words, "--usage", trace)
    with pytest.raises(UsageError, match=r"give it text \(--calibration TASK\) or a routing trace \(--usage FILE\)"):
        run(*words)


def test_bits_are_allocated_by_a_trace(run: Any, trace: Path, tmp_path: Path) -> None:
    words = ["compress", "mixtral-tiny", "--method", "rtn", "--like", "rtn3", "--allocate", "--layers", "0,1"]
    facts = run(*words, "--usage", trace, "--out", tmp_path / "out")
    assert set(facts["layer_keeps"]) == {"0", "1"}
    assert facts["bytes"] <= 2 * (3.5 / 16) * facts["original_bytes"]
    with pytest.raises(UsageError, match=r"\(--calibration TASK\), or a routing trace \(--usage FILE\)"):
        run(*words, "--out", tmp_path / "other")


def test_methods_that_need_text_say_so(run: Any, trace: Path, tmp_path: Path) -> None:
    words = ["compress", "mixtral-tiny", "--out", tmp_path / "out", "--usage", trace, "--method"]
    for method in ("resmoe-up-aware", "gptq"):
        with pytest.raises(UsageError, match=f"method '{method}' needs calibration statistics and has none"):
            run(*words, method)
    assert not (tmp_path / "out").exists()


def test_a_trace_of_another_model_is_refused_by_name(run: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "big.npz", make_trace(experts=64, k=2))
    with pytest.raises(DataError, match=r"big.npz is of another model than mixtral-tiny: found expert \d+"):
        run("compress", "mixtral-tiny", "--out", tmp_path / "out", "--usage", tmp_path / "big.npz")
    assert not (tmp_path / "out").exists()
