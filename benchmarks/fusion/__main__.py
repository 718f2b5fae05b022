"""OT Fusion: the paper's figures on MNIST, and small networks in place of its CIFAR-10 ones.

    python -m benchmarks.fusion published sinkhorn pruning         # the two published MLPNets: minutes
    python -m benchmarks.fusion transfer widths many pixels        # figures 2 and 4, four models: trains what it needs
    python -m benchmarks.fusion hidden students distillation convolutions
    python -m benchmarks.fusion --networks FOLDER ...

Trained networks are kept in FOLDER (a temporary one unless it is named), so that a run that was stopped goes on. MNIST,
the published networks and the sample of CIFAR-10 are found as data sets are. One thread a run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from .common import Trained
from .convolutions import convolutions
from .published import pruning, published, sinkhorn
from .students import distillation, hidden, students
from .transfer import many, pixels, transfer, widths

_ALL = (published, sinkhorn, pruning, transfer, widths, many, pixels, hidden, students, distillation, convolutions)
PARTS = {part.__name__: part for part in _ALL}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}; all where none is named")
    parser.add_argument("--networks", type=Path, help="folder where trained networks are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as spare:
        for name in arguments.parts or PARTS:
            started = time.perf_counter()
            PARTS[name](Trained(arguments.networks or Path(spare)))
            print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
