"""Routing shift beside scores: against the same forms traced by hand, once measured and then from the cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from resmoe_lab import cli
from resmoe_lab._core.errors import CheckpointError, ResmoeWarning
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint
from resmoe_lab.experiments import shift_scores
from resmoe_lab.experiments.comparison import score_methods
from resmoe_lab.experiments.record_pictures import TaskText
from resmoe_lab.experiments.shift_scores import checkpoint_shift
from resmoe_lab.experiments.sweep import scores_with_shift
from resmoe_lab.experiments.token_shift import routing_shift
from resmoe_lab.experts import family_of
from resmoe_lab.runtime import load, load_tokenizer
from resmoe_lab.scoring.score_cache import ScoreCache
from resmoe_lab.scoring.scorer import TaskScorer
from resmoe_lab.scoring.traces import token_request, trace_tokens

from ..plots.synthetic import make_sweep

TASKS = ["storyworld_action"]


@pytest.fixture(scope="module")
def packed(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "up"
    compress_checkpoint(tiny, out, CompressionConfig(method="up", keep=0.25))
    return out


@pytest.fixture(scope="module")
def expected(tiny: Checkpoint, packed: Path) -> pd.DataFrame:
    """Both models, loaded and traced one by one."""
    ids = load_tokenizer("mixtral-tiny")(TaskText.of(TASKS).text)["input_ids"][:256]
    traces = []
    for source in ("mixtral-tiny", packed):
        model = load(source)
        traces.append(trace_tokens(model, family_of(tiny), token_request(model, ids), layers=[0, 1, 2, 3]).routing)
    return routing_shift({layer: (traces[0][layer], traces[1][layer]) for layer in range(4)})


def test_a_compressed_checkpoint_is_held_against_its_original(
    packed: Path, expected: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = TaskScorer(TASKS, limit=2, cache=ScoreCache(tmp_path))
    shift = checkpoint_shift(open_checkpoint(packed), scorer)
    assert shift is not None
    pd.testing.assert_frame_equal(shift.layers, expected, rtol=1e-4, check_dtype=False)
    assert shift.rerouted == pytest.approx(expected["rerouted"].mean())
    assert (shift.task, shift.reason) == ("storyworld_action", "")

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(shift_scores, "load_pair", refuse)
    again = checkpoint_shift(open_checkpoint(packed), scorer)
    assert again is not None
    assert again.rerouted == shift.rerouted
    assert checkpoint_shift(open_checkpoint("mixtral-tiny"), scorer) is None


def test_an_original_that_is_gone_or_too_large_is_told(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = TaskScorer(TASKS, limit=2, cache=ScoreCache(tmp_path / "cache"))
    moved = tmp_path / "moved"
    shutil.copytree(packed, moved)
    path = moved / "resmoe_manifest.json"
    manifest = json.loads(path.read_text())
    manifest["settings"]["checkpoint"] = "/gone/elsewhere"
    path.write_text(json.dumps(manifest))
    shift = checkpoint_shift(open_checkpoint(moved), scorer)
    assert shift is not None
    assert shift.reason == "the original is not where the manifest says"
    assert shift.layers.empty
    monkeypatch.setattr(shift_scores, "available_bytes", lambda: 1000)
    shift = checkpoint_shift(open_checkpoint(packed), scorer)
    assert shift is not None
    assert "of memory, 1000 bytes are free" in shift.reason


def test_score_tables_have_it_and_cached_ones_run_no_model(
    tiny: Checkpoint, expected: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"methods": ["up"], "tasks": TASKS, "limit": 2, "cache": ScoreCache(tmp_path)}
    table = score_methods(tiny, **options).set_index("method")
    assert pd.isna(table.loc["original", "rerouted"])
    assert table.loc["up", "rerouted"] == pytest.approx(expected["rerouted"].mean(), abs=0.01)
    assert table.loc["up", "gate_kl"] == pytest.approx(expected["gate_kl"].mean(), rel=0.02)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr("resmoe_lab.experiments._forms.load_pair", refuse)
    again = score_methods(tiny, **options).set_index("method")
    assert again.loc["up", "rerouted"] == table.loc["up", "rerouted"]


def test_a_model_that_does_not_tell_is_scored_all_the_same(
    tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise CheckpointError("family 'x' cannot be traced")

    monkeypatch.setattr(shift_scores, "TracedText", refuse)
    options: dict[str, Any] = {"methods": ["up"], "tasks": TASKS, "limit": 2, "cache": ScoreCache(tmp_path)}
    with pytest.warns(ResmoeWarning, match="no routing shift beside these scores: family 'x' cannot be traced"):
        table = score_methods(tiny, **options)
    assert table["value"].notna().all()
    assert table["rerouted"].isna().all()


def test_a_sweeps_scores_have_the_mean_over_the_layers() -> None:
    sweep = make_sweep()
    table = scores_with_shift(sweep)
    assert table[list(sweep.scores)].equals(sweep.scores)
    for row in table.itertuples():
        own = sweep.routing_shift[
            (sweep.routing_shift["method"] == row.method) & (sweep.routing_shift["keep"] == row.keep)
        ]
        assert row.rerouted == (pytest.approx(own["rerouted"].mean()) if len(own) else None)


def test_evaluate_has_the_lines(packed: Path, expected: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(packed), "--tasks", *TASKS, "--limit", "2"]
    cli.app([*words, "--json"], exit_on_error=False, result_action="return_value")
    facts = json.loads(capsys.readouterr().out)["routing_shift"]
    assert facts["rerouted"] == pytest.approx(expected["rerouted"].mean())
    assert [row["layer"] for row in facts["layers"]] == [0, 1, 2, 3]
    cli.app(words, exit_on_error=False, result_action="return_value")
    said = capsys.readouterr().out
    assert "routing shift" in said
    assert "KL of the gate" in said
    cli.app(["evaluate", "mixtral-tiny", *words[2:], "--json"], exit_on_error=False, result_action="return_value")
    assert "routing_shift" not in json.loads(capsys.readouterr().out)
