"""Folders of models that are built: what is none of the zoo's is not replaced."""

from pathlib import Path

import pytest

from resmoe_lab._core.errors import OutputError
from resmoe_lab.training._cards import FACTS_FILE, check_model_folder


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    check_model_folder(tmp_path)
    check_model_folder(tmp_path / "new")
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(OutputError, match=f"holds something else .no {FACTS_FILE}."):
        check_model_folder(tmp_path)
    (tmp_path / FACTS_FILE).write_text("{}")
    check_model_folder(tmp_path)
