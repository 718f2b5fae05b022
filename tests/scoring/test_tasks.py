"""Tasks of one's own, and everything that can be wrong with a file of rows."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resmoe_lab._core.errors import DataError, UsageError
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.experts import empty_model
from resmoe_lab.runtime.loading import load_tokenizer
from resmoe_lab.scoring.score_cache import hash_rows
from resmoe_lab.scoring.tasks import TASKS, find_task, read_piqa
from resmoe_lab.scoring.zeroshot import task_size

from ..fuzzing import damaged, damaged_json, reads_or_refuses

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


def test_line_breaks_of_unicode_are_text(tmp_path: Path) -> None:
    """JSON may hold them as they are; only a new line ends a row."""
    text = "one\u2028two\u0085three four"
    path = tmp_path / "mine.jsonl"
    path.write_bytes(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\r\n")
    assert find_task(str(path)).rows() == [{"text": text}]


@pytest.mark.parametrize("label", ["2", "\u00b2", "x", "9" * 5000])
def test_labels_of_piqa_are_0_or_1(label: str, tmp_path: Path) -> None:
    (tmp_path / "piqa").mkdir()
    (tmp_path / "piqa" / "valid.jsonl").write_text(json.dumps(CHOICE) + "\n")
    (tmp_path / "piqa" / "valid-labels.lst").write_text(label + "\n", "utf-8")
    with pytest.raises(DataError, match="row 1 has label"):
        TASKS["piqa"].rows(data_dir=tmp_path)


def test_no_home_and_no_file_is_told() -> None:
    for name in ("~nobody-of-that-name/mine.jsonl", f"{'x' * 300}.txt"):
        with pytest.raises(DataError, match="not found: check the path"):
            find_task(name)


ROWS = {"choice": CHOICE, "partial": PARTIAL, "texts": {"text": "Some words."}, "last_word": {"text": "two words"}}


def _used(name: str, model: Any, tokenizer: Any) -> None:
    """Read the rows and ask for what would be scored."""
    task = find_task(name)
    task_size(model, tokenizer, task)
    hash_rows(task.rows())


@pytest.fixture(scope="module")
def opened() -> tuple[Any, Any]:
    checkpoint = open_checkpoint("mixtral-tiny")
    pair = empty_model(checkpoint.config), load_tokenizer(checkpoint)
    _used("storyworld_action", *pair)  # imports take their room only once
    return pair


@settings(derandomize=True, max_examples=60)
@pytest.mark.parametrize("kind", ROWS)
@given(data=st.data())
def test_other_values_in_rows_are_told(
    kind: str, data: st.DataObject, opened: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "values.jsonl"
    rows = [ROWS[kind], data.draw(damaged_json(ROWS[kind]))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:: data.draw(st.sampled_from((1, -1)))]))
    name = f"last_word:{path}" if kind == "last_word" else str(path)
    reads_or_refuses(lambda: _used(name, *opened), size=path.stat().st_size)


@settings(derandomize=True, max_examples=80)
@pytest.mark.parametrize("suffix", [".jsonl", ".txt"])
@given(content=damaged("".join(json.dumps(row) + "\n" for row in ROWS.values()).encode()))
def test_damaged_files_of_rows_are_told(
    suffix: str, content: bytes, opened: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = (tmp_path_factory.getbasetemp() / "damaged").with_suffix(suffix)
    path.write_bytes(content)
    reads_or_refuses(lambda: _used(str(path), *opened), size=len(content))
