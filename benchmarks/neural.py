"""Continuous barycenters on the papers' experiments: what was measured beside what is printed.

    python -m benchmarks.neural                              # all experiments at full size, which takes hours
    python -m benchmarks.neural not-gaussians --only 'D=2$'  # some of one
    python -m benchmarks.neural twister --quick              # in minutes
    python -m benchmarks.neural not-gaussians --show         # only what is there already
    python -m benchmarks.neural nwb-gaussians --show --chart figures/gallery/barycenter_error   # .svg and .png
    python -m benchmarks.neural palettes --pictures figures/gallery         # after its training

Every case is written as soon as it is measured, and a run that was stopped goes on where it was. Figures are those of
the last step. One thread: the networks are small.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import altair as alt
import pandas as pd
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab._core.progress import TqdmProgress, silent
from resmoe_lab.neural.experiments import EXPERIMENTS, experiment_pictures, run_experiment
from resmoe_lab.neural.solvers import SOLVERS
from resmoe_lab.plots import error_by_dimension
from resmoe_lab.plots.live import pictures_figure
from resmoe_lab.plots.raster import figure_bytes
from resmoe_lab.report.gallery import save_picture


def shown(table: pd.DataFrame) -> str:
    """One row a case, one column a metric."""
    keys = [name for name in ("case", "seed", "steps", "seconds", "published") if name in table]
    wide = table.pivot_table(index=keys, columns="metric", values="value", sort=False, dropna=False)
    return wide.dropna(how="all").reset_index().to_string(index=False, float_format=lambda value: f"{value:.4g}")


def growth(table: pd.DataFrame) -> alt.LayerChart:
    """Error by dimension: of the maps where that is what the experiment asks, else of the points drawn."""
    metric = "L2-UVP of maps" if table["experiment"].iloc[0] == "not-gaussians" else "BW2-UVP"
    errors = table[table["metric"] == metric].sort_values(["solver", "dimension"])
    floor = table[(table["metric"] == "floor") & (table["solver"] != "cdwb")]  # that one has points of its own number
    floor = floor.drop_duplicates("dimension").assign(solver="noise of the points")
    if metric == "BW2-UVP":
        errors = pd.concat([errors, floor.sort_values("dimension")])
    titles = {name: SOLVERS[name].title for name in SOLVERS}
    return error_by_dimension(errors.assign(solver=errors["solver"].replace(titles)), label=metric)


def run(name: str, chosen: argparse.Namespace) -> None:
    """Train and measure what is not there yet."""
    progress = TqdmProgress() if sys.stderr.isatty() else silent
    options = {"only": chosen.only, "out": chosen.out, "seeds": chosen.seed or [0], "quick": chosen.quick}
    try:
        print(f"\n{name}\n\n{shown(run_experiment(name, progress=progress, **options))}", flush=True)
    except UsageError as error:
        print(f"\n{name}: {error}", flush=True)


def show(name: str, chosen: argparse.Namespace) -> None:
    """Print what has been measured, and chart it if asked to."""
    folder = chosen.out / (f"{name}-quick" if chosen.quick else name)
    tables = [pd.read_csv(path) for path in sorted(folder.glob("*.csv"), key=lambda path: path.stat().st_mtime)]
    print(f"\n{name}\n\n{shown(pd.concat(tables)) if tables else 'nothing yet'}", flush=True)
    if tables and chosen.chart:
        save_picture(growth(pd.concat(tables)), chosen.chart)


def draw(name: str, chosen: argparse.Namespace) -> None:
    """Draw what the trained networks make of pictures."""
    how = {"only": chosen.only, "out": chosen.out, "quick": chosen.quick}
    for label, rows in experiment_pictures(name, **how):
        stem = re.sub(r"\W+", "_", f"{name} {label}")
        figure = pictures_figure(rows, title=f"{EXPERIMENTS[name].title}: {label}")
        (chosen.pictures / f"{stem}.png").write_bytes(figure_bytes(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=EXPERIMENTS.names())
    parser.add_argument("--only", default="", help="pattern that a case's label must match")
    parser.add_argument("--out", type=Path, default=Path("figures/neural"))
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--chart", type=Path, help="with --show: draw the error by dimension there")
    parser.add_argument("--pictures", type=Path, help="folder for the pictures that the trained networks make")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    work = show if chosen.show else draw if chosen.pictures else run
    for name in chosen.names:
        work(name, chosen)


if __name__ == "__main__":
    main()
