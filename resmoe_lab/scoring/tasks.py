"""The tasks: where their rows are and how they are scored. StoryWorld's mirror the paper's four."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .. import zoo
from .._core.datasets import find_data
from .._core.errors import DataError, UsageError
from .._core.parsing import parse_json
from .._core.registry import Registry

Kind = Literal["texts", "stream", "last_word", "choice", "partial"]
Row = dict[str, Any]
#: Kinds whose rows are texts that are predicted from beginning to end.
RUNNING_TEXT: tuple[Kind, ...] = ("texts", "stream")
#: What a row of each kind must have.
FIELDS: dict[Kind, tuple[str, ...]] = {
    "texts": ("text",),
    "stream": ("text",),
    "last_word": ("text",),
    "choice": ("goal", "sol1", "sol2", "label"),
    "partial": ("sentence", "option1", "option2", "answer"),
}


#: Those of them that are text.
_TEXTS = {kind: tuple(name for name in names if name not in ("label", "answer")) for kind, names in FIELDS.items()}
#: PIQA's labels as its file of labels has them.
_LABELS = {"0": 0, "1": 1}


@dataclass(frozen=True)
class Task:
    """A zero-shot task.

    Parameters
    ----------
    name
        What users type.
    kind
        How it is scored: perplexity of texts, or of one long text in windows (WikiText); greedy prediction of the last
        word (LAMBADA); the likelier of two endings (PIQA); the filler that makes the rest of the sentence likelier
        (WinoGrande).
    file
        Path of its rows: below ``data/tasks/`` if `embedded`, below a data folder otherwise, or anywhere if absolute.
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
        if Path(self.file).is_absolute():
            return Path(self.file)
        if not self.embedded:
            return find_data(self.file, data_dir=data_dir)
        path = zoo.data_folder() / "tasks" / self.file
        if not path.is_file():
            raise DataError(f"{path} is missing, expected an embedded task file: restore it from the repository")
        return path

    def check(self, *, limit: int | None = None, data_dir: str | Path | None = None) -> None:
        """Raise early what :meth:`rows` would raise for a missing file or a wrong limit."""
        self.path(data_dir)
        if limit is not None and limit < 1:
            raise UsageError(f"limit is {limit}, expected a positive whole number")

    def rows(self, *, limit: int | None = None, data_dir: str | Path | None = None) -> list[Row]:
        """Read the first `limit` rows (None: all).

        Raises
        ------
        DataError
            If the file is missing, empty or not text, or a row is malformed, naming it.
        """
        self.check(limit=limit, data_dir=data_dir)
        path = self.path(data_dir)
        rows = read_text_file(path, self.read)[:limit]
        if not rows:
            raise DataError(f"{path} is empty, expected at least one row for task {self.name}: copy it again")
        for number, row in enumerate(rows, start=1):
            if problem := _problem(self.kind, row):
                raise DataError(
                    f"{path}, row {number} {problem}, expected a row for task {self.name}: correct the file"
                )
        return rows


def read_text_file(path: Path, read: Callable[[Path], list[Row]]) -> list[Row]:
    """Read rows from a file.

    Raises
    ------
    DataError
        If it cannot be read, or is not text.
    """
    try:
        return read(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): convert it") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check the path") from error


def _problem(kind: Kind, row: Row) -> str | None:
    """What is wrong with a row, in words."""
    if missing := next((name for name in FIELDS[kind] if row.get(name) is None), None):
        return f"has no {missing!r}"
    if other := next((name for name in _TEXTS[kind] if not isinstance(row[name], str)), None):
        return f"has {other!r} of type {type(row[other]).__name__}, not text"
    if broken := next((name for name in _TEXTS[kind] if not _is_unicode(row[name])), None):
        return f"has half a character in {broken!r}"
    if empty := next((name for name in FIELDS[kind] if not str(row[name]).strip()), None):
        return f"has an empty {empty!r}"
    if kind == "choice" and str(row["label"]) not in ("0", "1"):
        return f"has label {row['label']!r}, not 0 or 1"
    if kind == "partial" and (str(row["answer"]) not in ("1", "2") or row["sentence"].count("_") != 1):
        return f"has answer {row['answer']!r} and {row['sentence'].count('_')} blanks '_', not 1 or 2 and one blank"
    if kind == "last_word" and " " not in row["text"].strip():
        return "has a text of one word"
    return None


def _is_unicode(text: str) -> bool:
    """Whether a text can be written: JSON may hold surrogates without their other half."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def read_jsonl(path: Path) -> list[Row]:
    """Read one JSON object a line."""
    rows = []
    # Not splitlines: JSON may hold the line breaks of Unicode as they are.
    for number, line in enumerate(path.read_text("utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number} is not JSON ({error}): correct the file") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number} holds a {type(row).__name__}, expected a JSON object with fields")
        rows.append(row)
    return rows


def read_whole_text(path: Path) -> list[Row]:
    """Read the whole file as one text."""
    text = path.read_text("utf-8")
    return [{"text": text}] if text.strip() else []


def read_piqa(path: Path) -> list[Row]:
    """Read PIQA's rows, whose labels are in another file of the folder."""
    labels_path = path.with_name("valid-labels.lst")
    labels_path = labels_path if labels_path.is_file() else find_data("piqa/valid-labels.lst")
    rows, labels = read_jsonl(path), labels_path.read_text("utf-8").split()
    if len(rows) != len(labels):
        raise DataError(
            f"{path} has {len(rows)} rows and {labels_path} {len(labels)} labels, expected as many: copy both"
        )
    return [{**row, "label": _LABELS.get(label, label)} for row, label in zip(rows, labels, strict=True)]


def _storyworld(name: str, kind: Kind, chance: float | None = None) -> Task:
    return Task(f"storyworld_{name}", kind, f"storyworld/storyworld_{name}.jsonl", True, read_jsonl, chance=chance)


_TASKS = (
    _storyworld("perplexity", "texts"),
    _storyworld("last_word", "last_word"),
    _storyworld("action", "choice", 0.5),
    _storyworld("pronoun", "partial", 0.5),
    Task("wikitext", "stream", "wikitext-2/wiki.test.raw", False, read_whole_text),
    Task("lambada", "last_word", "lambada/lambada_test.jsonl", False, read_jsonl),
    Task("piqa", "choice", "piqa/valid.jsonl", False, read_piqa, "Question: {goal}\nAnswer:", 0.5),
    Task("winogrande", "partial", "winogrande/dev.jsonl", False, read_jsonl, chance=0.5),
)
TASKS: Registry[Task] = Registry("task", "resmoe_lab.scoring")
for _task in _TASKS:
    TASKS.register(_task.name)(_task)

#: The default tasks, whose data comes with the project.
EMBEDDED_TASKS: tuple[str, ...] = tuple(task.name for task in _TASKS if task.embedded)


def find_task(name: str) -> Task:
    """Return a task by its name, or make one of a user's own file.

    Parameters
    ----------
    name
        A name of :data:`TASKS`; a ``.txt`` file, which is one long text; or a ``.jsonl`` file, whose kind follows from
        the fields of its first row: PIQA's (``goal``, ``sol1``, ``sol2``, ``label``), WinoGrande's (``sentence``,
        ``option1``, ``option2``, ``answer``) or texts (``text``). LAMBADA's rows look like texts: for them write
        ``last_word:FILE``.

    Raises
    ------
    UsageError
        If it is none of these; similar names are suggested.
    DataError
        If the file is not there, or its rows are of no known form.
    """
    path = Path(os.path.expanduser(name.removeprefix("last_word:")))
    if path.suffix not in (".jsonl", ".txt"):
        return TASKS[name]
    if not os.path.isfile(path):
        raise DataError(f"task file {path} not found: check the path")
    file = str(path.absolute())
    if path.suffix == ".txt":
        return Task(path.stem, "stream", file, False, read_whole_text)
    fields = set((read_text_file(path, read_jsonl) or [{}])[0])
    kinds: tuple[Kind, ...] = ("last_word",) if name.startswith("last_word:") else ("choice", "partial", "texts")
    matching = [kind for kind in kinds if fields.issuperset(FIELDS[kind])]
    if not matching:
        forms = "; ".join(", ".join(FIELDS[kind]) for kind in kinds)
        raise DataError(f"{path} begins with the fields {sorted(fields)}, expected one of: {forms}")
    chance = 0.5 if matching[0] in ("choice", "partial") else None
    return Task(path.stem, matching[0], file, False, read_jsonl, chance=chance)


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
