"""A gallery of a sweep's figures as SVG and PNG files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from .. import plots
from .._core.errors import UsageError
from .._core.params import KEEP
from ..experiments.sweep import Sweep
from ..plots.live import ErrorFigure, allocation_figure, front_figure
from ..plots.raster import figure_bytes
from ..plots.series import add_series
from ..workbench.views import SweepView

#: Charts take the page's text color; figures in files have a white background.
_TEXT_COLOR = "#1d2430"
#: The budget of the allocation's figure, as a share of the experts' bytes.
_SHARE = 0.5


def write_gallery(sweep: Sweep | str | Path, folder: str | Path) -> list[Path]:
    """Draw the gallery of a sweep; return the paths of its files, an SVG and a PNG of every figure.

    Parameters
    ----------
    sweep
        A sweep, or the folder of one.
    folder
        Where the files are written; created if it does not exist.
    """
    loaded = sweep if isinstance(sweep, Sweep) else Sweep.load(sweep)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "error_by_bytes": plots.error_by_bytes(loaded.errors, loaded.sizes),
        "permutations": plots.permutation_map(loaded.permutations),
        "similarity": plots.similarity_heatmap(loaded.similarity),
        **_figures(loaded),
    }
    return [path for name, picture in pictures.items() for path in save_picture(picture, folder / name)]


def _figures(sweep: Sweep) -> dict[str, Figure]:
    """Draw the figures that the workbench's panels show."""
    view = SweepView(sweep)
    curves = add_series(sweep.errors).rename(columns={"keep": "at", "relative_error": "value"})
    figures = {"errors": ErrorFigure(curves[["layer", "series", "at", "value"]]).figure(KEEP.default)}
    for task in view.tasks[:1]:
        points, front, metric, original = view.points(task)
        figures["front"] = front_figure(points, front, task=task, metric=metric, original=original)
    method = "resmoe-up" if "resmoe-up" in view.methods() else view.methods()[0]
    try:
        table = view.allocation(method, _SHARE)
    except UsageError:  # nothing of this sweep fits into so few bytes: no such figure
        return figures
    return {**figures, "allocation": allocation_figure(table, method=method, share=_SHARE)}


def save_picture(picture: Any, path: Path) -> list[Path]:
    """Write an altair chart or a matplotlib figure as SVG and PNG; `path` without a suffix."""
    import vl_convert

    files = {form: path.with_suffix(f".{form}") for form in ("svg", "png")}
    if isinstance(picture, Figure):
        picture.set_dpi(160)
        for form, file in files.items():
            file.write_bytes(figure_bytes(picture, form))
        return list(files.values())
    spec = json.loads(json.dumps(picture.to_dict()).replace("currentColor", _TEXT_COLOR))
    spec["config"]["background"] = "white"
    files["svg"].write_text(vl_convert.vegalite_to_svg(spec), "utf-8")
    files["png"].write_bytes(vl_convert.vegalite_to_png(spec, scale=1.5))
    return list(files.values())


if __name__ == "__main__":
    write_gallery(sys.argv[1], sys.argv[2])
