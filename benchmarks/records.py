"""Measured figures that are kept in `benchmarks/results`, one for each case, metric and seed.

Tables are made from these files and nowhere typed by hand (`python -m benchmarks.papers`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from resmoe_lab._core.files import atomic_write

RESULTS = Path(__file__).parent / "results"
#: What names a figure: measured again, it takes the old one's place.
KEYS = ("experiment", "case", "metric", "seed")


def keep(name: str, rows: Sequence[dict[str, Any]], *, folder: Path = RESULTS) -> None:
    """Write figures to the file of this name; those with the same keys are replaced."""
    path = folder / f"{name}.json"
    known = {tuple(row[key] for key in KEYS): row for row in _rows(path)}
    known |= {tuple(row[key] for key in KEYS): dict(row) for row in rows}
    folder.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(row) for _, row in sorted(known.items(), key=lambda item: str(item[0])))
    with atomic_write(path) as part:
        part.write_text(f"[\n{lines}\n]\n")


def kept(name: str, *, folder: Path = RESULTS) -> pd.DataFrame:
    """Return the figures of a file, none if there is no such file."""
    return pd.DataFrame(_rows(folder / f"{name}.json"), columns=None)


def _rows(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text()) if path.is_file() else []
