"""Scores against lm-evaluation-harness, which shares no code with ours."""

import math
from pathlib import Path

import pytest
import torch

from resmoe_lab._core.errors import DataError, UsageError
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.runtime import load_pair
from resmoe_lab.scoring.harness import _pages, harness_outcomes
from resmoe_lab.scoring.outcome import Score, tabulate
from resmoe_lab.scoring.tasks import EMBEDDED_TASKS, TASKS, Task
from resmoe_lab.scoring.zeroshot import evaluate_model, published_text, stream_windows, task_outcome

from ..conftest import data_or_skip

LIMIT = 24


@pytest.fixture(scope="module")
def model_and_tokenizer(tiny: Checkpoint) -> tuple:
    return load_pair(tiny)


def _compare(model_and_tokenizer: tuple, tasks: list[str]) -> None:
    ours = tabulate(evaluate_model(*model_and_tokenizer, tasks=tasks, limit=LIMIT))
    outcomes = [one for task in tasks for one in harness_outcomes(*model_and_tokenizer, task, limit=LIMIT)]
    theirs = tabulate([score for outcome in outcomes for score in outcome.scores])
    for task in tasks:
        assert ours[task]["n"] == theirs[task]["n"] == LIMIT
        metric = theirs[task]["metric"]
        value = ours[task][metric] if metric in ours[task] else ours[task]["value"]
        assert value == pytest.approx(theirs[task]["value"], rel=1e-4), task


def test_storyworld_scores_are_the_harnesss(model_and_tokenizer: tuple) -> None:
    _compare(model_and_tokenizer, list(EMBEDDED_TASKS))


def test_the_papers_tasks_are_the_harnesss(model_and_tokenizer: tuple) -> None:
    tasks = ["lambada", "piqa", "winogrande"]
    for task in tasks:
        data_or_skip(TASKS[task].file)
    _compare(model_and_tokenizer, tasks)


def test_wikitext_is_cut_into_its_articles() -> None:
    path = data_or_skip("wikitext-2/wiki.test.raw")
    pages = _pages([{"text": path.read_text("utf-8")}])
    # Only the blank line before the first title is left out.
    assert "".join(page["page"] for page in pages) == path.read_text("utf-8").removeprefix(" \n")
    # WikiText-2's test split has 62 articles on the hub's document-level copy; the first stub is its blank line.
    assert len(pages) in (60, 61, 62, 63)


def test_a_stop_between_batches_stops(model_and_tokenizer: tuple) -> None:
    class Stop(Exception):
        pass

    def stop(tick: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        evaluate_model(*model_and_tokenizer, progress=stop)


def test_missing_data_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESMOE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"data set 'piqa/valid\.jsonl' not found"):
        TASKS["piqa"].rows()


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_must_be_positive(limit: int) -> None:
    with pytest.raises(UsageError, match="limit is"):
        TASKS["storyworld_action"].rows(limit=limit)


def test_an_unknown_task_suggests_similar() -> None:
    with pytest.raises(UsageError, match=r"did you mean .*winogrande"):
        TASKS["winograd"]


def test_a_table_row_is_the_main_metric_with_the_others_beside() -> None:
    scores = [Score("t", "perplexity", 9.0, 0.1, 5), Score("t", "word_perplexity", 90.0, 1.0, 5)]
    assert tabulate(scores) == {
        "t": {"metric": "perplexity", "value": 9.0, "stderr": 0.1, "n": 5, "word_perplexity": 90.0}
    }


# -- the published windows -------------------------------------------------------------------------------------


def test_wikitext_s_windows_are_those_of_the_published_loop(tiny: Checkpoint) -> None:
    model, tokenizer = load_pair(tiny)
    text = " \n = Title = \n \n Some words of an article . \n More words . \n" * 20
    rows = ["" if line == " " else f"{line}\n" for line in text.split("\n")[:-1]]
    tokens = tokenizer("\n\n".join(rows), return_tensors="pt")["input_ids"]
    losses = []
    with torch.no_grad():
        for begin in range(0, tokens.shape[1], 256):
            piece = tokens[:, begin : begin + 256]
            losses.append(float(model(piece, labels=piece).loss))
    windows = stream_windows(model, tokenizer, text)
    assert [len(window.continuation) for window in windows] == [255] * (len(losses) - 1) + [
        tokens.shape[1] - 256 * (len(losses) - 1) - 1
    ]
    task = Task("mine", "stream", str(Path(__file__).absolute()), False, lambda path: [{"text": text}])
    scores = {score.metric: score.value for score in task_outcome(model, tokenizer, task).scores}
    assert scores["perplexity"] == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-4)
    assert set(scores) == {"perplexity", "token_perplexity", "word_perplexity", "byte_perplexity"}


def test_a_blank_line_is_an_empty_row() -> None:
    assert published_text(" \n = A = \n \n b \n") == "\n\n = A = \n\n\n\n\n b \n"
