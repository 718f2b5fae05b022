"""What every notebook must be, and the tour from top to bottom."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.report.execute import run_notebook

_FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
_ROOMS = sorted(_FOLDER.glob("*.ipynb"))
_REPORTS = sorted((_FOLDER / "reports").glob("*.ipynb"))
_LOGIC = (ast.For, ast.While, ast.If, ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.Try, ast.With)


def _code(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_is_a_tour_and_a_report() -> None:
    assert _FOLDER / "00_tour.ipynb" in _ROOMS
    assert _FOLDER / "reports" / "model.ipynb" in _REPORTS


@pytest.mark.parametrize("path", _ROOMS, ids=lambda path: path.stem)
def test_a_room_has_at_most_twelve_cells(path: Path) -> None:
    assert len(nbformat.read(path, as_version=4).cells) <= 12


@pytest.mark.parametrize("path", [*_ROOMS, *_REPORTS], ids=lambda path: path.stem)
def test_a_notebook_is_stored_clean_and_without_logic(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    for source in _code(path):
        assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, _LOGIC)]
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) == 1


def test_the_tour_runs_and_ends_with_the_panel(tiny: Checkpoint) -> None:
    notebook = run_notebook(_FOLDER / "00_tour.ipynb", {"model": str(tiny.folder)})
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert sum("resmoe-chart" in data.get("text/html", "") and "vegaEmbed" in data["text/html"] for data in shown) >= 2
    assert "application/vnd.jupyter.widget-view+json" in shown[-1]
