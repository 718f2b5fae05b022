"""The sweep's tables: what is in them, that they come back from disk, and that a stopped sweep goes on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resmoe_lab._core.errors import Cancelled, DataError, OutputError, UsageError
from resmoe_lab._core.progress import Tick, silent
from resmoe_lab.centers import find_center
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.experiments.run_sweep import run_sweep
from resmoe_lab.experiments.sweep import TABLES, Sweep
from resmoe_lab.experiments.variants import CENTER_ONLY, ORIGINAL, curve_keeps, keeps_of
from resmoe_lab.experts import load_stack
from resmoe_lab.methods import METHODS, compress_layer, storage_ledger
from resmoe_lab.report.summary import summary_rows

from ..fuzzing import damaged, damaged_json, reads_or_refuses

SETTINGS = {"methods": ["up", "resmoe-up"], "keeps": [0.25], "layers": [1, 2], "limit": 4}
TASKS = ["storyworld_action", "storyworld_perplexity"]


@pytest.fixture(scope="module")
def swept(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, Path]:
    out = tmp_path_factory.mktemp("sweep") / "out"
    return run_sweep(tiny, out, tasks=TASKS, **SETTINGS), out


def test_tables_come_back_as_they_were(swept: tuple[Sweep, Path]) -> None:
    sweep, out = swept
    loaded = Sweep.load(out)
    for name in TABLES:
        pd.testing.assert_frame_equal(
            getattr(loaded, name), getattr(sweep, name).reset_index(drop=True), check_dtype=False
        )
    assert loaded.facts == sweep.facts
    assert loaded.pictures == sweep.pictures
    assert all(np.array_equal(loaded.permutations[layer], sweep.permutations[layer]) for layer in (1, 2))
    assert not list(out.glob("*.part"))


def test_every_method_is_scored_beside_the_original_and_the_center(swept: tuple[Sweep, Path]) -> None:
    sweep, _ = swept
    assert set(zip(sweep.scores.method, sweep.scores.keep, strict=True)) == {
        (ORIGINAL, 1.0),
        (CENTER_ONLY, 0.0),
        ("up", 0.25),
        ("resmoe-up", 0.25),
    }
    assert set(sweep.scores.task) == set(TASKS)
    loss = sweep.scores[sweep.scores.metric == "perplexity"].set_index("method").value
    assert max(loss[ORIGINAL], loss["resmoe-up"]) < loss[CENTER_ONLY] < loss["up"]


def test_sizes_are_the_ledgers(swept: tuple[Sweep, Path], tiny: Checkpoint) -> None:
    sweep, _ = swept
    row = sweep.sizes[(sweep.sizes.method == "up") & (sweep.sizes.keep == 0.25)].iloc[0]
    stacks = [load_stack(tiny, layer=layer) for layer in (1, 2)]
    ledgers = [storage_ledger(compress_layer(stack, method="up", keep=0.25)) for stack in stacks]
    assert row.true_bytes == sum(ledger.true_bytes for ledger in ledgers)
    assert row.original_model_bytes == tiny.total_bytes
    assert row.model_bytes == tiny.total_bytes - row.original_bytes + row.true_bytes


def test_shares_and_similarities_are_what_they_say(swept: tuple[Sweep, Path]) -> None:
    sweep, _ = swept
    totals = sweep.routing.groupby("layer").share.sum()
    assert totals.to_numpy() == pytest.approx(1.0)
    for similarity in sweep.similarity.values():
        assert np.allclose(similarity, similarity.T)
        assert np.allclose(np.diag(similarity), 1.0)


def test_a_stopped_sweep_goes_on(tiny: Checkpoint, tmp_path: Path, swept: tuple[Sweep, Path]) -> None:
    def stop(tick: Tick) -> None:
        if tick.task == "scores" and tick.done == 2:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        run_sweep(tiny, tmp_path / "out", tasks=TASKS, progress=stop, **SETTINGS)
    saved = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("scores-*.json")}
    assert len(saved) == 2
    with pytest.raises(DataError, match="holds no finished sweep"):
        Sweep.load(tmp_path / "out")
    again = run_sweep(tiny, tmp_path / "out", tasks=TASKS, progress=silent, **SETTINGS)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in saved.items())
    pd.testing.assert_frame_equal(again.scores, swept[0].scores)


def test_a_folder_of_an_older_version_is_read(swept: tuple[Sweep, Path], tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(swept[1], folder)
    for name in ("routing_shift.csv", "predictions.csv", "pictures.json"):
        (folder / name).unlink()
    old = Sweep.load(folder)
    assert old.pictures is None
    assert old.routing_shift.empty
    assert old.predictions.empty
    pd.testing.assert_frame_equal(old.scores, Sweep.load(swept[1]).scores)


def test_a_finished_sweep_is_reused(tiny: Checkpoint, swept: tuple[Sweep, Path]) -> None:
    def fail(tick: Tick) -> None:
        raise AssertionError("nothing should run")

    again = run_sweep(tiny, swept[1], tasks=TASKS, progress=fail, **SETTINGS)
    assert again.facts == swept[0].facts


def test_another_sweep_is_not_written_over(tiny: Checkpoint, swept: tuple[Sweep, Path]) -> None:
    with pytest.raises(OutputError, match=r"holds another result, made with keeps \[0.25\] \(now \[0.5\]\)"):
        run_sweep(tiny, swept[1], tasks=TASKS, **SETTINGS | {"keeps": [0.5]})


def test_bad_arguments_write_nothing(tiny: Checkpoint, tmp_path: Path) -> None:
    for wrong in ({"keeps": [0.0]}, {"methods": ["uppp"]}, {"tasks": ["nonsense"]}):
        with pytest.raises(UsageError):
            run_sweep(tiny, tmp_path / "out", **SETTINGS | wrong)
    assert not (tmp_path / "out").exists()


def test_calibrated_methods_are_swept_under_names_of_their_own(tiny: Checkpoint, tmp_path: Path) -> None:
    options = {"layers": [0], "methods": ["resmoe-up-aware", "meo"], "keeps": [0.5], "limit": 4}
    options |= {"tasks": ["storyworld_action"], "center": "ot-fusion"}
    with pytest.raises(UsageError, match="'resmoe-up-aware' needs calibration text"):
        run_sweep(tiny, tmp_path / "without", **options)
    assert not (tmp_path / "without").exists()
    sweep = run_sweep(tiny, tmp_path / "with", calibration="storyworld_perplexity", tokens=300, **options)
    assert sweep.facts["settings"]["calibration"] == "storyworld_perplexity"
    assert set(sweep.errors.method) == {"resmoe-up-aware", "meo"}
    assert set(sweep.scores.method) == {"original", "center-only", "resmoe-up-aware", "meo"}


def test_text_that_calibrates_and_is_scored_is_warned_of(tiny: Checkpoint, tmp_path: Path) -> None:
    options = {"layers": [0], "methods": ["meo"], "keeps": [0.5], "limit": 2, "tasks": ["storyworld_perplexity"]}
    with pytest.warns(UserWarning, match="'storyworld_perplexity' both calibrates and is scored"):
        run_sweep(tiny, tmp_path, calibration="storyworld_perplexity", tokens=300, **options)


def test_the_old_name_of_the_calibration_is_warned_of(tiny: Checkpoint, tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="use 'calibration'"), pytest.raises(UsageError, match="uppp"):
        run_sweep(tiny, tmp_path, layers=[0], methods=["uppp"], calibrate="storyworld_perplexity")


def test_methods_by_bits_are_swept_at_bits(tiny: Checkpoint, tmp_path: Path) -> None:
    """At those that each can have, with bytes that were measured."""
    choices = {"methods": ["up", "rtn", "resmoe-coded"], "keeps": [0.25], "bits": [1.5, 3], "layers": [0]}
    sweep = run_sweep(tiny, tmp_path / "out", tasks=["storyworld_action"], limit=4, **choices)
    told = {(row.method, row.keep) for row in sweep.scores.itertuples()}
    coded = {("resmoe-coded", 1.5 / 16), ("resmoe-coded", 3 / 16)}
    assert told == {(ORIGINAL, 1.0), (CENTER_ONLY, 0.0), ("up", 0.25), ("rtn", 3 / 16), *coded}
    assert sweep.facts["settings"]["bits"] == [1.5, 3]
    assert set(zip(sweep.errors.method, sweep.errors.keep, strict=True)) == set(
        zip(sweep.sizes.method, sweep.sizes.keep, strict=True)
    )
    rounded = sweep.sizes[sweep.sizes.method == "rtn"]
    assert (16 * rounded.keep).tolist() == [2, 3, 4, 5, 6, 8]
    stack = load_stack(tiny, layer=0)
    layer = compress_layer(stack, method="resmoe-coded", keep=3 / 16, center=find_center(stack))
    size = sweep.sizes[(sweep.sizes.method == "resmoe-coded") & (sweep.sizes.keep == 3 / 16)].iloc[0]
    ledger = storage_ledger(layer)
    assert (size.true_bytes, size.paper_bytes) == (ledger.true_bytes, ledger.paper_bytes)
    assert 0.9 * 3 / 16 < size.true_bytes / size.original_bytes <= 3 / 16


def test_keeps_are_those_of_a_methods_bits() -> None:
    choices = {"keeps": [0.1, 0.25], "bits": [1, 2, 2.5, 4, 12]}
    assert keeps_of(METHODS["resmoe-up"](), **choices) == [0.1, 0.25]
    assert keeps_of(METHODS["rtn"](), **choices) == [2 / 16, 4 / 16]
    assert keeps_of(METHODS["mxfp4"](), **choices) == [4 / 16]
    assert keeps_of(METHODS["coded"](), **choices) == [bits / 16 for bits in choices["bits"]]
    assert set(keeps_of(METHODS["rtn"](), **choices)) <= set(curve_keeps(METHODS["rtn"](), **choices))
    assert set(curve_keeps(METHODS["up"](), **choices)) >= {0.05, 0.1, 0.25, 1.0}


def test_a_damaged_score_is_measured_again(tiny: Checkpoint, tmp_path: Path, swept: tuple[Sweep, Path]) -> None:
    """A stopped sweep's files of scores are read for what they are worth."""
    out = tmp_path / "out"

    def stop(tick: Tick) -> None:
        if tick.task == "scores" and tick.done == 3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        run_sweep(tiny, out, tasks=TASKS, progress=stop, **SETTINGS)
    (out / "errors.csv.0123abcd.part").write_text("half")
    for path, content in zip(sorted(out.glob("scores-*.json")), ("{", "[]", '[{"task": 1}]'), strict=True):
        path.write_text(content)
    again = run_sweep(tiny, out, tasks=TASKS, **SETTINGS)
    pd.testing.assert_frame_equal(again.scores, swept[0].scores)
    assert not list(out.glob("*.part"))


@pytest.fixture(scope="module")
def fuzzed(swept: tuple[Sweep, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzzed") / "sweep"
    shutil.copytree(swept[1], folder)
    _used(folder)  # imports take their room only once
    return folder


def _used(folder: Path) -> None:
    Sweep.load(folder)
    summary_rows(folder)


@settings(derandomize=True, max_examples=30)
@pytest.mark.parametrize("name", [*(f"{name}.csv" for name in TABLES), "arrays.npz", "pictures.json", "sweep.json"])
@given(data=st.data())
def test_a_damaged_sweep_is_told(fuzzed: Path, name: str, data: st.DataObject) -> None:
    path = fuzzed / name
    content = path.read_bytes()
    size = sum(file.stat().st_size for file in fuzzed.iterdir())
    try:
        path.write_bytes(data.draw(damaged(content)))
        reads_or_refuses(lambda: _used(fuzzed), size=size)
    finally:
        path.write_bytes(content)


@settings(derandomize=True, max_examples=60)
@pytest.mark.parametrize("name", ["sweep.json", "pictures.json"])
@given(data=st.data())
def test_other_facts_of_a_sweep_are_told(fuzzed: Path, name: str, data: st.DataObject) -> None:
    path = fuzzed / name
    content = path.read_bytes()
    size = sum(file.stat().st_size for file in fuzzed.iterdir())
    try:
        path.write_text(json.dumps(data.draw(damaged_json(json.loads(content)))))
        reads_or_refuses(lambda: _used(fuzzed), size=size)
    finally:
        path.write_bytes(content)
