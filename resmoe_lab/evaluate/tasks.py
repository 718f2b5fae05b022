"""The tasks: where their rows are and what form they have. StoryWorld's mirror the paper's four."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .. import zoo
from .._core.datasets import find_data
from .._core.errors import DataError, UsageError
from .._core.registry import Registry

Kind = Literal["perplexity", "last_word", "choice", "partial"]
Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A zero-shot task.

    Parameters
    ----------
    name
        What users type.
    kind
        How it is scored: perplexity of texts; greedy prediction of the last word (LAMBADA); the likelier of
        two endings (PIQA); the filler that makes the rest of the sentence likelier (WinoGrande).
    file
        Path of its rows: below ``data/tasks/`` if `embedded`, below a data folder otherwise.
    embedded
        Whether the rows come with the project.
    read
        Turns the file into rows.
    prompt
        What stands before the two endings of a ``choice`` row.
    chance
        Accuracy of guessing, where there is one.
    """

    name: str
    kind: Kind
    file: str
    embedded: bool
    read: Callable[[Path], list[Row]]
    prompt: str = "{goal}"
    chance: float | None = None

    def path(self, data_dir: str | Path | None = None) -> Path:
        """Find the file of the rows.

        Raises
        ------
        DataError
            If it is in none of the places where data is looked for.
        """
        if not self.embedded:
            return find_data(self.file, data_dir=data_dir)
        path = zoo.data_folder() / "tasks" / self.file
        if not path.is_file():
            raise DataError(f"{path} is missing, expected an embedded task file: restore it from the repository")
        return path

    def check(self, *, limit: int | None = None, data_dir: str | Path | None = None) -> None:
        """Find out early what :meth:`rows` would complain of."""
        self.path(data_dir)
        if limit is not None and limit < 1:
            raise UsageError(f"limit is {limit}, expected a positive whole number")

    def rows(self, *, limit: int | None = None, data_dir: str | Path | None = None) -> list[Row]:
        """Read the first `limit` rows (None: all)."""
        self.check(limit=limit, data_dir=data_dir)
        return self.read(self.path(data_dir))[:limit]


def read_jsonl(path: Path) -> list[Row]:
    """One JSON object a line."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def read_whole_text(path: Path) -> list[Row]:
    """The whole file as one text."""
    return [{"text": path.read_text("utf-8")}]


def read_piqa(path: Path) -> list[Row]:
    """PIQA keeps its labels in a file beside the rows."""
    beside = path.with_name("valid-labels.lst")
    labels = (beside if beside.is_file() else find_data("piqa/valid-labels.lst")).read_text("utf-8").split()
    return [{**row, "label": int(label)} for row, label in zip(read_jsonl(path), labels, strict=True)]


def _storyworld(name: str, kind: Kind, chance: float | None = None) -> Task:
    return Task(f"storyworld_{name}", kind, f"storyworld/storyworld_{name}.jsonl", True, read_jsonl, chance=chance)


_ALL = (
    _storyworld("perplexity", "perplexity"),
    _storyworld("last_word", "last_word"),
    _storyworld("action", "choice", 0.5),
    _storyworld("pronoun", "partial", 0.5),
    Task("wikitext", "perplexity", "wikitext-2/wiki.test.raw", False, read_whole_text),
    Task("lambada", "last_word", "lambada/lambada_test.jsonl", False, read_jsonl),
    Task("piqa", "choice", "piqa/valid.jsonl", False, read_piqa, "Question: {goal}\nAnswer:", 0.5),
    Task("winogrande", "partial", "winogrande/dev.jsonl", False, read_jsonl, chance=0.5),
)
TASKS: Registry[Task] = Registry("task", "resmoe_lab.evaluate")
for _task in _ALL:
    TASKS.register(_task.name)(_task)

#: What is scored when nobody says otherwise: the tasks that need no data from outside.
EMBEDDED_TASKS: tuple[str, ...] = tuple(task.name for task in _ALL if task.embedded)


def write_storyworld_tasks(folder: Path, *, n: int = 400, seed: int = 0) -> Iterable[Path]:
    """Write the rows of StoryWorld's held-out tasks as the files that :data:`TASKS` reads."""
    from ..zoo.storyworld import TASK_ROWS, task_rows

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in TASK_ROWS:
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in task_rows(name, n=n, seed=seed)), "utf-8")
        paths.append(path)
    return paths
