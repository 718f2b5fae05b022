"""Continuous barycenters on the papers' experiments: measured results beside the published ones.

    python -m benchmarks.neural                              # all experiments at full size, which takes hours
    python -m benchmarks.neural not-gaussians --only 'D=2$'  # some of one
    python -m benchmarks.neural twister --quick              # in minutes
    python -m benchmarks.neural not-gaussians --show         # only what is there already
    python -m benchmarks.neural nwb-gaussians --show --chart figures/gallery/barycenter_error   # .svg and .png
    python -m benchmarks.neural palettes --pictures figures/gallery         # after its training
    python -m benchmarks.neural celeba --data celeba/        # with img_align_celeba/*.jpg, list_eval_partition.txt

Results are saved case by case, and a stopped run is resumed. They are those of the last step. One thread, as the
networks are small.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import altair as alt
import pandas as pd
import torch

from resmoe_lab._core.errors import DataError, UsageError
from resmoe_lab._core.progress import TqdmProgress, silent
from resmoe_lab.neural.experiments import EXPERIMENTS, experiment_pictures, run_experiment
from resmoe_lab.neural.solvers import SOLVERS
from resmoe_lab.plots import error_by_dimension
from resmoe_lab.plots.live import pictures_figure
from resmoe_lab.plots.raster import figure_bytes
from resmoe_lab.report.gallery import save_picture

from .records import keep


def format_table(table: pd.DataFrame) -> str:
    """Return one row for each case, one column for each metric."""
    keys = [name for name in ("case", "seed", "steps", "seconds", "published") if name in table]
    wide = table.pivot_table(index=keys, columns="metric", values="value", sort=False, dropna=False)
    return wide.dropna(how="all").reset_index().to_string(index=False, float_format=lambda value: f"{value:.4g}")


def error_chart(table: pd.DataFrame) -> alt.LayerChart:
    """Chart the error by dimension: of the maps if the experiment is about them, else of the samples."""
    table = table[~table["case"].str.contains(" plain ")]
    metric = "L2-UVP of maps" if table["experiment"].iloc[0] == "not-gaussians" else "BW2-UVP"
    errors = table[table["metric"] == metric].sort_values(["solver", "dimension"])
    floor = table[(table["metric"] == "floor") & (table["solver"] != "cdwb")]  # whose number of points differs
    floor = floor.drop_duplicates("dimension").assign(solver="noise of the points")
    if metric == "BW2-UVP":
        errors = pd.concat([errors, floor.sort_values("dimension")])
    titles = {name: SOLVERS[name].title for name in SOLVERS}
    return error_by_dimension(errors.assign(solver=errors["solver"].replace(titles)), label=metric)


def run(name: str, arguments: argparse.Namespace) -> None:
    """Run the cases without results, seed by seed; those at full size are kept for the tables."""
    progress = TqdmProgress() if sys.stderr.isatty() else silent
    tables = []
    options = {"only": arguments.only, "out": arguments.out, "quick": arguments.quick, "data": arguments.data}
    try:
        for seed in arguments.seed or [0]:
            table = run_experiment(name, seeds=[seed], progress=progress, **options)
            tables.append(table)
            if not arguments.quick:
                keep("neural", json.loads(table.to_json(orient="records")))
    except (DataError, UsageError) as error:
        print(f"\n{name}: {error}", flush=True)
    if tables:
        print(f"\n{name}\n\n{format_table(pd.concat(tables))}", flush=True)


def show(name: str, arguments: argparse.Namespace) -> None:
    """Print the results so far, and chart them if requested."""
    folder = arguments.out / (f"{name}-quick" if arguments.quick else name)
    tables = [pd.read_csv(path) for path in sorted(folder.glob("*.csv"), key=lambda path: path.stat().st_mtime)]
    print(f"\n{name}\n\n{format_table(pd.concat(tables)) if tables else 'nothing yet'}", flush=True)
    if tables and arguments.chart:
        save_picture(error_chart(pd.concat(tables)), arguments.chart)


def draw(name: str, arguments: argparse.Namespace) -> None:
    """Save the images of the trained networks."""
    options = {"only": arguments.only, "out": arguments.out, "quick": arguments.quick, "data": arguments.data}
    for label, rows in experiment_pictures(name, **options):
        stem = re.sub(r"\W+", "_", f"{name} {label}")
        figure = pictures_figure(rows, title=f"{EXPERIMENTS[name].title}: {label}")
        (arguments.pictures / f"{stem}.png").write_bytes(figure_bytes(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=EXPERIMENTS.names())
    parser.add_argument("--only", default="", help="pattern that a case's label must match")
    parser.add_argument("--out", type=Path, default=Path("figures/neural"))
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--chart", type=Path, help="with --show: draw the error by dimension there")
    parser.add_argument("--data", type=Path, help="folder of pictures, for celeba")
    parser.add_argument("--pictures", type=Path, help="folder for the pictures that the trained networks make")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    action = show if arguments.show else draw if arguments.pictures else run
    for name in arguments.names:
        action(name, arguments)


if __name__ == "__main__":
    main()
