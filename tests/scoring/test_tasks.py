"""Tasks of one's own, and everything that can be wrong with a file of rows."""

import json
from pathlib import Path

import pytest

from resmoe_lab._core.errors import DataError, UsageError
from resmoe_lab.scoring.tasks import TASKS, find_task, read_piqa

CHOICE = {"goal": "g", "sol1": "a", "sol2": "b", "label": 1}
PARTIAL = {"sentence": "The _ fell.", "option1": "cup", "option2": "box", "answer": "2"}


def _file(folder: Path, *rows: object, name: str = "mine.jsonl") -> str:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("row", "kind"), [(CHOICE, "choice"), (PARTIAL, "partial"), ({"text": "Some words."}, "texts")]
)
def test_a_file_s_fields_tell_its_kind(row: dict, kind: str, tmp_path: Path) -> None:
    task = find_task(_file(tmp_path, row, row))
    assert (task.name, task.kind, len(task.rows())) == ("mine", kind, 2)


def test_last_words_are_asked_for_by_name(tmp_path: Path) -> None:
    assert find_task("last_word:" + _file(tmp_path, {"text": "two words"})).kind == "last_word"


def test_a_text_file_is_one_long_text(tmp_path: Path) -> None:
    task = find_task(_file(tmp_path, "some", "text", name="mine.txt"))
    assert task.kind == "stream"
    assert task.rows() == [{"text": "some\ntext\n"}]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([CHOICE, {**CHOICE, "label": None}], "row 2 has no 'label'"),
        ([CHOICE, {key: CHOICE[key] for key in ("goal", "sol1", "label")}], "row 2 has no 'sol2'"),
        ([{**CHOICE, "label": 3}], "row 1 has label 3, not 0 or 1"),
        ([{**CHOICE, "sol1": " "}], "row 1 has an empty 'sol1'"),
        ([{**PARTIAL, "sentence": "no blank"}], "0 blanks '_'"),
        ([{**PARTIAL, "answer": "3"}], "answer '3'"),
        ([CHOICE, "{not json"], "line 2 is not JSON"),
        ([CHOICE, "[1]"], "line 2 holds a list"),
    ],
)
def test_a_bad_row_is_named(rows: list, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message.replace("[", r"\[")):
        find_task(_file(tmp_path, *rows)).rows()


def test_rows_of_no_known_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"begins with the fields \['question'\], expected one of: goal, sol1"):
        find_task(_file(tmp_path, {"question": "?"}))
    with pytest.raises(DataError, match="begins with the fields"):
        find_task(_file(tmp_path))


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe", "UTF-8")])
def test_an_empty_text_or_none_at_all_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        find_task(str(tmp_path / "x.txt")).rows()


def test_a_missing_file_is_named() -> None:
    with pytest.raises(DataError, match=r"nowhere/x\.jsonl not found"):
        find_task("nowhere/x.jsonl")


def test_another_name_suggests_ours() -> None:
    with pytest.raises(UsageError, match=r"did you mean .*lambada"):
        find_task("lambda")


def test_a_word_alone_is_no_passage(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has a text of one word"):
        find_task("last_word:" + _file(tmp_path, {"text": "alone"})).rows()


def test_piqa_s_labels_must_be_as_many_as_its_rows(tmp_path: Path) -> None:
    path = Path(_file(tmp_path, CHOICE, CHOICE, name="valid.jsonl"))
    (tmp_path / "valid-labels.lst").write_text("1\n")
    with pytest.raises(DataError, match=r"has 2 rows and .* 1 labels"):
        read_piqa(path)


def test_the_papers_tasks_have_their_files() -> None:
    assert {task for task in TASKS if not TASKS[task].embedded} == {"wikitext", "lambada", "piqa", "winogrande"}
