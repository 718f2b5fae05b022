"""A few of a report's charts as pictures, for pages that cannot run them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from .. import plots
from ..evaluate.sweep import Sweep

#: Charts follow the page's ink; a picture stands on white paper.
_INK = "#1d2430"


def write_gallery(sweep: Sweep | str | Path, folder: str | Path) -> list[Path]:
    """Draw the gallery of a sweep as PNG files; return their paths.

    Parameters
    ----------
    sweep
        A sweep, or the folder of one.
    folder
        Where the pictures go; made if it is not there.
    """
    loaded = sweep if isinstance(sweep, Sweep) else Sweep.load(sweep)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    charts = {
        "error_by_bytes": plots.error_by_bytes(loaded.errors, loaded.sizes),
        "permutations": plots.permutation_map(loaded.permutations),
        "similarity": plots.similarity_heatmap(loaded.similarity),
    }
    tasks = loaded.scores.task.unique()
    if "storyworld_perplexity" in tasks:
        charts["perplexity_by_bytes"] = plots.score_by_bytes(loaded.scores, loaded.sizes, "storyworld_perplexity")
    return [_save(chart, folder / f"{name}.png") for name, chart in charts.items()]


def _save(chart: Any, path: Path) -> Path:
    import vl_convert

    spec = json.loads(json.dumps(chart.to_dict()).replace("currentColor", _INK))
    spec["config"]["background"] = "white"
    path.write_bytes(vl_convert.vegalite_to_png(spec, scale=1.5))
    return path


if __name__ == "__main__":
    write_gallery(sys.argv[1], sys.argv[2])
