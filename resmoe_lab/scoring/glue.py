"""GLUE's sentence tasks in their published files: tab-separated rows, turned into text and label words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .._core.datasets import find_data
from .._core.errors import DataError, UsageError
from .._core.progress import Progress, silent, tracked
from .likelihood import shift_right
from .outcome import Outcome, Score, accuracy, matthews
from .padding import answer_tokens, pad_rows

#: Texts of a batch.
_BATCH_SIZE = 64
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
        What an encoder-decoder generates for each label.
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
        try:
            lines = path.read_text("utf-8-sig").split("\n")[1 if self.header else 0 :]
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): copy it again"
            ) from error
        rows = []
        for number, line in enumerate(lines, start=2 if self.header else 1):
            if not line.strip():
                continue
            try:
                row = self.read(line.rstrip("\r").split("\t"))
                if row["label"] not in range(len(self.words)):
                    raise ValueError(f"label {row['label']}, expected 0 to {len(self.words) - 1}")
                rows.append(row)
            except (IndexError, ValueError) as error:
                raise DataError(
                    f"{path}, line {number} is no row of {self.name} ({error}): copy the file again"
                ) from error
        if not rows:
            raise DataError(f"{path} is empty, expected rows of {self.name}: copy it again")
        return rows[:limit]

    def prompt(self, row: GlueRow) -> str:
        """Return an encoder's text: the task's name and its texts, each under its field's name, as T5 was trained."""
        return " ".join([self.name, *(f"{field}: {str(row[field]).strip()}" for field in self.fields)])

    def answer(self, row: GlueRow) -> str:
        """Return what its decoder should generate."""
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
    """Score an encoder-decoder that was fine-tuned on a task: which label's words are the likeliest?

    Parameters
    ----------
    model, tokenizer
        Fine-tuned by :func:`~resmoe_lab.training.finetuning.fine_tune`.
    task
        The task.
    limit, data_dir
        Number of rows, and where they are searched first.
    window
        Longest text in tokens, as in the fine-tuning.
    progress
        Called after every batch.

    Returns
    -------
    Outcome
        Accuracy, for CoLA the Matthews correlation first; its rows are right and wrong answers.
    """
    rows, end = task.rows(limit=limit, data_dir=data_dir), model.config.eos_token_id
    tail = [] if end is None else [end]
    words = [torch.tensor([[*answer_tokens(tokenizer, word), *tail]], device=model.device) for word in task.words]
    answers = np.empty(len(rows), dtype=np.int64)
    # The encoder runs once per text for all labels.
    for begin in tracked(range(0, len(rows), _BATCH_SIZE), f"glue {task.name}", progress):
        texts = [
            tokenizer(task.prompt(row))["input_ids"][: window - 1] + tail for row in rows[begin : begin + _BATCH_SIZE]
        ]
        tokens, mask = (pad_rows(part, model.device) for part in (texts, [[1] * len(text) for text in texts]))
        states = model.get_encoder()(input_ids=tokens, attention_mask=mask)
        scores = [_answer_log_probability(model, states, mask, word) for word in words]
        answers[begin : begin + len(texts)] = torch.stack(scores).argmax(dim=0).cpu().numpy()
    return outcome_of_answers(task, rows, answers)


def outcome_of_answers(task: GlueTask, rows: Sequence[GlueRow], answers: np.ndarray) -> Outcome:
    """Score the labels that a model gave to rows.

    Parameters
    ----------
    task, rows
        The task, and its rows.
    answers
        (n,) int64 labels.

    Returns
    -------
    Outcome
        Accuracy, for CoLA the Matthews correlation first; its rows are right and wrong answers.
    """
    labels = np.array([int(row["label"]) for row in rows])
    outcome = accuracy(task.name, (answers == labels).tolist())
    if not task.matthews:
        return outcome
    outcome = replace(outcome, labels=labels)
    score = Score(task.name, "mcc", float(matthews(labels, answers)), _bootstrap_error(outcome), len(rows))
    return replace(outcome, scores=(score, *outcome.scores))


def _answer_log_probability(model: Any, states: Any, mask: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """Summed log-probability of (1, T) answer tokens given each of a batch of encoded texts: (B,)."""
    targets = answer.expand(len(mask), -1)
    options = {"decoder_input_ids": shift_right(model, targets), "use_cache": False}
    log_probabilities = model(encoder_outputs=states, attention_mask=mask, **options).logits.float().log_softmax(dim=-1)
    return log_probabilities.gather(2, targets[..., None]).double().sum(dim=(1, 2))


def _bootstrap_error(outcome: Outcome, *, samples: int = 500) -> float:
    """Bootstrap standard error of a main figure that is no mean, such as a correlation."""
    n = len(outcome.rows)
    picks = np.random.default_rng(0).integers(0, n, size=(samples, n))
    return float(outcome.value_of(picks).std(ddof=1))
