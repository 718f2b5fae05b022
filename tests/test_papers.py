"""README's table of printed numbers is what the kept results say, and results are kept by their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import papers, records


def test_the_table_of_the_readme_is_that_of_the_kept_results() -> None:
    text = papers.README.read_text()
    table = text.split(papers.BEGIN)[1].split(papers.END)[0].strip()
    assert table == papers.markdown(papers.rows()), "run python -m benchmarks.papers --write"


def test_every_figure_is_a_mean_of_kept_rows() -> None:
    rows = json.loads((records.RESULTS / "fusion.json").read_text())
    values = [
        row["value"] for row in rows if row["case"] == "activations, 200 samples" and row["metric"] == "OT average"
    ]
    [row] = [row for row in papers.rows() if row.what == "fused by 200 activations"]
    assert row.ours == values
    assert row.printed == 96.21
    mean = sum(values) / len(values)
    assert f"| 96.21 | {mean:.2f} ± " in papers.markdown([row])


def test_a_figure_measured_again_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    row = {"experiment": "a", "case": "b", "metric": "c", "seed": 0, "value": 1.0}
    records.keep("some", [row, row | {"seed": 1}], folder=tmp_path)
    records.keep("some", [row | {"value": 2.0}], folder=tmp_path)
    table = records.kept("some", folder=tmp_path)
    assert table[["seed", "value"]].values.tolist() == [[0, 2.0], [1, 1.0]]
    assert records.kept("none", folder=tmp_path).empty


def test_a_file_without_marks_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("nothing\n")
    with pytest.raises(SystemExit, match="nothing is written"):
        papers.write("table", path)
    assert path.read_text() == "nothing\n"
    path.write_text(f"before\n{papers.BEGIN}\nold\n{papers.END}\nafter\n")
    papers.write("new", path)
    assert path.read_text() == f"before\n{papers.BEGIN}\n\nnew\n\n{papers.END}\nafter\n"
