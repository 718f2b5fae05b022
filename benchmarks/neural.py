"""Continuous barycenters on the papers' experiments: what was measured beside what is printed.

    python -m benchmarks.neural                              # all experiments at full size, which takes hours
    python -m benchmarks.neural not-gaussians --only 'D=2$'  # some of one
    python -m benchmarks.neural twister --quick              # in minutes
    python -m benchmarks.neural not-gaussians --show         # only what is there already

Every case is written as soon as it is measured, and a run that was stopped goes on where it was. Figures are those of
the last step. One thread: the networks are small.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab._core.progress import TqdmProgress, silent
from resmoe_lab.neural.experiments import EXPERIMENTS, run_experiment


def shown(table: pd.DataFrame) -> str:
    """One row a case, one column a metric."""
    keys = [name for name in ("case", "seed", "steps", "seconds", "published") if name in table]
    wide = table.pivot_table(index=keys, columns="metric", values="value", sort=False, dropna=False)
    return wide.dropna(how="all").reset_index().to_string(index=False, float_format=lambda value: f"{value:.4g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=EXPERIMENTS.names())
    parser.add_argument("--only", default="", help="pattern that a case's label must match")
    parser.add_argument("--out", type=Path, default=Path("figures/neural"))
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--show", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for name in chosen.names:
        if chosen.show:
            folder = chosen.out / (f"{name}-quick" if chosen.quick else name)
            tables = [pd.read_csv(path) for path in sorted(folder.glob("*.csv"), key=lambda path: path.stat().st_mtime)]
            print(f"\n{name}\n\n{shown(pd.concat(tables)) if tables else 'nothing yet'}", flush=True)
            continue
        progress = TqdmProgress() if sys.stderr.isatty() else silent
        options = {"only": chosen.only, "out": chosen.out, "seeds": chosen.seed or [0], "quick": chosen.quick}
        try:
            print(f"\n{name}\n\n{shown(run_experiment(name, progress=progress, **options))}", flush=True)
        except UsageError as error:
            print(f"\n{name}: {error}", flush=True)


if __name__ == "__main__":
    main()
