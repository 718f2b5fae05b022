"""GLUE's sentence tasks as they are published: tab-separated rows, turned into text and label words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .._core.datasets import find_data
from .._core.errors import DataError, UsageError
from .._core.progress import Progress, silent, tracked
from .likelihood import shifted
from .outcome import Outcome, Score, accuracy, matthews
from .padding import answer_tokens, padded

#: Texts that are read at once.
_BATCH = 64
#: One row as the harness and the hub name its fields.
GlueRow = dict[str, str | int]


@dataclass(frozen=True)
class GlueTask:
    """One task.

    Parameters
    ----------
    name
        The harness's name.
    train, test
        Files of labelled rows; no training file where the data has none.
    words
        What an encoder-decoder writes for each label.
    fields
        Names of the texts of a row.
    read
        Turns the columns of one line into texts and label.
    header
        Whether the first line names the columns.
    matthews
        Whether the Matthews correlation is its main metric, as for CoLA; accuracy otherwise.
    """

    name: str
    train: str | None
    test: str
    words: tuple[str, ...]
    fields: tuple[str, ...]
    read: Callable[[list[str]], GlueRow]
    header: bool = True
    matthews: bool = False

    def rows(
        self, *, train: bool = False, limit: int | None = None, data_dir: str | Path | None = None
    ) -> list[GlueRow]:
        """Read labelled rows.

        Raises
        ------
        DataError
            If there are none, or a line has too few columns.
        """
        file = self.train if train else self.test
        if file is None:
            raise DataError(f"GLUE task {self.name} has no training rows here: choose sst2, mrpc, cola or rte")
        path = find_data(file, data_dir=data_dir)
        # No quote handling: a quotation mark is a character like any other in these files.
        lines = path.read_text("utf-8-sig").split("\n")[1 if self.header else 0 :]
        rows = []
        for number, line in enumerate(lines, start=2 if self.header else 1):
            if not line.strip():
                continue
            try:
                rows.append(self.read(line.rstrip("\r").split("\t")))
            except (IndexError, ValueError) as error:
                raise DataError(
                    f"{path}, line {number} is no row of {self.name} ({error}): copy the file again"
                ) from error
        if not rows:
            raise DataError(f"{path} is empty, expected rows of {self.name}: copy it again")
        return rows[:limit]

    def prompt(self, row: GlueRow) -> str:
        """What an encoder reads: the task's name and its texts, each under its field's name, as T5 was trained."""
        return " ".join([self.name, *(f"{field}: {str(row[field]).strip()}" for field in self.fields)])

    def answer(self, row: GlueRow) -> str:
        """What its decoder is to write."""
        return self.words[int(row["label"])]


_MNLI = ("entailment", "neutral", "contradiction")
GLUE: dict[str, GlueTask] = {
    task.name: task
    for task in (
        GlueTask(
            "sst2",
            "glue/SST-2/train.tsv",
            "glue/SST-2/dev.tsv",
            ("negative", "positive"),
            ("sentence",),
            lambda columns: {"sentence": columns[0], "label": int(columns[1])},
        ),
        GlueTask(
            "mrpc",
            "glue/MRPC/msr_paraphrase_train.txt",
            "glue/MRPC/msr_paraphrase_test.txt",
            ("different", "equivalent"),
            ("sentence1", "sentence2"),
            lambda columns: {"label": int(columns[0]), "sentence1": columns[3], "sentence2": columns[4]},
        ),
        GlueTask(
            "cola",
            "glue/CoLA/train.tsv",
            "glue/CoLA/dev.tsv",
            ("unacceptable", "acceptable"),
            ("sentence",),
            lambda columns: {"label": int(columns[1]), "sentence": columns[3]},
            header=False,
            matthews=True,
        ),
        GlueTask(
            "rte",
            "glue/RTE/train.tsv",
            "glue/RTE/dev.tsv",
            ("entailment", "contradiction"),
            ("sentence1", "sentence2"),
            lambda columns: {
                "sentence1": columns[1],
                "sentence2": columns[2],
                "label": ("entailment", "not_entailment").index(columns[3]),
            },
        ),
        GlueTask(
            "mnli",
            None,
            "glue/MNLI/mnli_matched_1000.tsv",
            _MNLI,
            ("premise", "hypothesis"),
            lambda columns: {"label": _MNLI.index(columns[0]), "premise": columns[1], "hypothesis": columns[2]},
            header=False,
        ),
    )
}


def glue_task(name: str) -> GlueTask:
    """Return a GLUE task by name.

    Raises
    ------
    UsageError
        If there is none.
    """
    if name not in GLUE:
        raise UsageError(f"unknown GLUE task {name!r}: choose from {', '.join(GLUE)}")
    return GLUE[name]


@torch.no_grad()
def glue_outcome(
    model: Any,
    tokenizer: Any,
    task: GlueTask,
    *,
    limit: int | None = None,
    data_dir: str | Path | None = None,
    window: int = 128,
    progress: Progress = silent,
) -> Outcome:
    """Score an encoder-decoder that was fine-tuned on a task: which label's words does it think the likeliest?

    Parameters
    ----------
    model, tokenizer
        Fine-tuned by :func:`~resmoe_lab.training.finetuning.fine_tune`.
    task
        The task.
    limit, data_dir
        Rows, and where they are searched first.
    window
        Longest text that is read, as in the fine-tuning.
    progress
        Told after every batch.

    Returns
    -------
    Outcome
        Accuracy, for CoLA the Matthews correlation first; its rows are right and wrong answers.
    """
    rows, end = task.rows(limit=limit, data_dir=data_dir), model.config.eos_token_id
    tail = [] if end is None else [end]
    words = [torch.tensor([[*answer_tokens(tokenizer, word), *tail]], device=model.device) for word in task.words]
    answers = np.empty(len(rows), dtype=np.int64)
    # The encoder reads a text once for all labels.
    for begin in tracked(range(0, len(rows), _BATCH), f"glue {task.name}", progress):
        texts = [tokenizer(task.prompt(row))["input_ids"][: window - 1] + tail for row in rows[begin : begin + _BATCH]]
        read, seen = (padded(part, 0, model.device) for part in (texts, [[1] * len(text) for text in texts]))
        states = model.get_encoder()(input_ids=read, attention_mask=seen)
        scores = [_told(model, states, seen, word) for word in words]
        answers[begin : begin + len(texts)] = torch.stack(scores).argmax(dim=0).cpu().numpy()
    labels = np.array([int(row["label"]) for row in rows])
    outcome = accuracy(task.name, (answers == labels).tolist())
    if not task.matthews:
        return outcome
    known = replace(outcome, labels=labels)
    score = Score(task.name, "mcc", float(matthews(labels, answers)), _bootstrap_error(known), len(rows))
    return replace(known, scores=(score, *outcome.scores))


def _told(model: Any, states: Any, seen: torch.Tensor, word: torch.Tensor) -> torch.Tensor:
    """Summed log-probability of (1, T) tokens after each of the texts that an encoder has read."""
    told = word.expand(len(seen), -1)
    decoder = {"decoder_input_ids": shifted(model, told), "use_cache": False}
    logits = model(encoder_outputs=states, attention_mask=seen, **decoder).logits.float().log_softmax(dim=-1)
    return logits.gather(2, told[..., None]).double().sum(dim=(1, 2))


def _bootstrap_error(outcome: Outcome, *, samples: int = 500) -> float:
    """Standard error of a correlation, which is no mean."""
    n = len(outcome.rows)
    picks = np.random.default_rng(0).integers(0, n, size=(samples, n))
    return float(outcome.value_of(picks).std(ddof=1))
