"""What every notebook must be, and each of them from top to bottom, with small numbers for its parameters."""

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


#: Parameters of the runs: every cell runs, on fewer rows, images and steps than a reader's would.
_SMALL: dict[str, dict[str, object]] = {
    "00_tour": {},
    "10_experts": {},
    "15_tokens": {},
    "20_transport": {},
    "30_errors": {},
    "40_sweep": {"keeps": [0.25, 0.5], "bits": [2], "limit": 8},
    "50_zero_shot": {"limit": 8},
    "60_fusion": {"images": 2500, "epochs": 1},
    "70_barycenters": {"steps": 30},
}


def test_every_room_is_run() -> None:
    assert set(_SMALL) == {path.stem for path in _ROOMS}


@pytest.mark.parametrize("path", _ROOMS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outputs = _outputs(run_notebook(path, _SMALL[path.stem]))
    assert not [output for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    shown = [output.data for output in outputs if "data" in output]
    widgets = [data for data in shown if "application/vnd.jupyter.widget-view+json" in data]
    assert len(widgets) == (2 if path.stem == "00_tour" else 1), "a room shows one panel, the tour the map too"
    if path.stem == "00_tour":
        assert shown[-1] is widgets[-1]
        assert sum("resmoe-chart" in html and "vegaEmbed" in html for html in _html(shown)) >= 2


def _outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def _html(shown: list[nbformat.NotebookNode]) -> list[str]:
    return [data.get("text/html", "") for data in shown]
