"""Forms of one model side by side: what is said of each is what the library says of it alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from resmoe_lab import cli
from resmoe_lab._core.errors import CheckpointError, DataError, UsageError
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint
from resmoe_lab.experiments.compare_forms import FormsComparison, compare_forms
from resmoe_lab.experiments.comparison import score_methods
from resmoe_lab.experiments.divergence import divergence, predicting_states
from resmoe_lab.report import build_comparison
from resmoe_lab.runtime import load, load_tokenizer
from resmoe_lab.scoring.traces import token_request

TEXT = "One morning the river was frozen, and the boats stood still."
OPTIONS: dict[str, Any] = {"text": TEXT, "tasks": ["storyworld_action"], "limit": 12, "new_tokens": 6}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("forms")
    checkpoint = open_checkpoint("mixtral-tiny")
    for method in ("up", "rtn"):
        compress_checkpoint(checkpoint, root / method, CompressionConfig(method=method, keep=0.25))
    return {method: root / method for method in ("up", "rtn")}


@pytest.fixture(scope="module")
def comparison(folders: dict[str, Path]) -> FormsComparison:
    return compare_forms([str(folder) for folder in folders.values()], **OPTIONS)


def test_bytes_and_errors_are_those_of_the_folders(comparison: FormsComparison, folders: dict[str, Path]) -> None:
    assert comparison.reference == "original"
    forms = comparison.forms.set_index("form")
    assert list(forms.index) == ["original", "up", "rtn"]
    for name, folder in folders.items():
        manifest = json.loads((folder / "resmoe_manifest.json").read_text())
        assert forms.loc[name, "bytes"] == manifest["bytes"]
        assert forms.loc[name, "relative_error"] == manifest["relative_error"]
        assert forms.loc[name, "total_bytes"] == open_checkpoint(folder).total_bytes
    assert forms.loc["rtn", "bits"] == pytest.approx(4.5)


def test_scores_are_those_of_the_same_methods_in_the_original(comparison: FormsComparison) -> None:
    how = {"tasks": ["storyworld_action"], "limit": 12, "keep": 0.25}
    expected = score_methods(open_checkpoint("mixtral-tiny"), methods=["up", "rtn"], **how)  # type: ignore[arg-type]
    scores = comparison.scores.set_index("form")
    for row in expected.itertuples():
        assert scores.loc[row.method, "value"] == row.value
        if row.method != "original":
            assert scores.loc[row.method, "difference"] == pytest.approx(row.difference)
            assert scores.loc[row.method, "low"] == pytest.approx(row.low)


def test_predictions_move_as_divergence_says(comparison: FormsComparison, folders: dict[str, Path]) -> None:
    original, tokenizer = load("mixtral-tiny"), load_tokenizer("mixtral-tiny")
    request = token_request(original, tokenizer(TEXT)["input_ids"])
    for name, folder in folders.items():
        states = [predicting_states(model, [request]) for model in (original, load(folder))]
        expected = divergence(original, *states)
        picture = comparison.pictures[name]
        # The prediction after the last token is shown too; divergence knows what follows each.
        assert sum(picture["kl"][:-1]) / len(picture["kl"][:-1]) == pytest.approx(expected.kl, rel=1e-3)
        row = comparison.tokens.set_index("form").loc[name]
        assert row["kl"] == pytest.approx(sum(picture["kl"]) / len(picture["kl"]))
        assert row["worst"] == max(picture["kl"])
    texts = comparison.texts[comparison.texts["form"] == "original"]
    assert set(texts["same"]) == {6}


def test_it_is_saved_and_read(comparison: FormsComparison, tmp_path: Path) -> None:
    read = FormsComparison.load(comparison.save(tmp_path / "tables"))
    for name in ("forms", "scores", "tokens", "routing", "texts"):
        pd.testing.assert_frame_equal(getattr(read, name), getattr(comparison, name), check_dtype=False)
    assert read.pictures == comparison.pictures
    (tmp_path / "tables" / "comparison.json").write_text("{")
    with pytest.raises(DataError, match="holds no comparison"):
        FormsComparison.load(tmp_path / "tables")


def test_the_report_is_one_file_and_no_name_is_markup(comparison: FormsComparison, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    renamed = {
        name: getattr(comparison, name).replace({"form": {"up": evil}})
        for name in ("forms", "scores", "tokens", "routing", "texts")
    }
    renamed["texts"]["text"] = renamed["texts"]["text"] + "</script><script>alert(2)"
    made = FormsComparison(comparison.reference, pictures={evil: comparison.pictures["up"]}, **renamed)
    page = build_comparison(made, tmp_path / "compare.html").read_text("utf-8")
    assert evil not in page
    assert "</script><script>alert" not in page
    for words in ("&lt;img src=x", "drawTokens(document", "What they write", "moves predictions least"):
        assert words in page
    assert len(page) < 5_000_000


def test_without_the_original_the_first_form_is_the_reference(folders: dict[str, Path], tmp_path: Path) -> None:
    for name, folder in folders.items():
        shutil.copytree(folder, tmp_path / name)
        path = tmp_path / name / "resmoe_manifest.json"
        manifest = json.loads(path.read_text())
        manifest["settings"]["checkpoint"] = "/gone/elsewhere"
        path.write_text(json.dumps(manifest))
    sources = [str(tmp_path / name) for name in folders]
    options = OPTIONS | {"tasks": []}
    made = compare_forms(sources, **options)
    assert made.reference == "up"
    assert made.tokens["form"].tolist() == ["rtn"]
    assert made.scores.empty
    assert compare_forms(sources, original="mixtral-tiny", **options).reference == "original"
    with pytest.raises(UsageError, match="is not the model that the checkpoints were made of"):
        compare_forms(sources, original="deepseek-tiny", **options)


def test_what_cannot_be_compared_is_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    up, rtn = (str(folder) for folder in folders.values())
    with pytest.raises(UsageError, match="expected at least two"):
        compare_forms([up], **OPTIONS)
    with pytest.raises(UsageError, match="two checkpoints are called 'up'"):
        compare_forms([up, up], **OPTIONS)
    with pytest.raises(CheckpointError, match="expected the output of resmoe-lab compress"):
        compare_forms([up, "mixtral-tiny"], **OPTIONS)
    with pytest.raises(UsageError, match="give a few words"):
        compare_forms([up, rtn], **OPTIONS | {"text": ""})
    other = tmp_path / "other"
    compress_checkpoint(open_checkpoint("deepseek-tiny"), other, CompressionConfig(method="up", keep=0.25, layers="1"))
    with pytest.raises(UsageError, match="made of different models"):
        compare_forms([up, str(other)], **OPTIONS)


def test_the_command_prints_one_object(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    words = ["--text", str(tmp_path / "text.txt"), "--tasks", "storyworld_action", "--limit", "4", "--json"]
    cli.app(["compare", *map(str, folders.values()), *words], exit_on_error=False, result_action="return_value")
    facts = json.loads(capsys.readouterr().out)
    assert facts["reference"] == "original"
    assert [form["form"] for form in facts["forms"]] == ["original", "up", "rtn"]
    assert facts["report"] is None
