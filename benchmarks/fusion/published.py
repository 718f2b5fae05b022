"""Tables S2 to S6 and figure 3, on the two networks that the authors published."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache

import pandas as pd
from torch import nn

from resmoe_lab._core.datasets import find_data
from resmoe_lab.fusion import accuracy, compare, fuse, load_mlpnet, repair_pruned

from .common import SEEDS, Trained, digits, keep_figures, show, spread


@cache
def _pair() -> list[nn.Module]:
    return [load_mlpnet(find_data(f"otfusion_mnist_models/model_{index}/final.checkpoint")) for index in (0, 1)]


def _draws(count: int, *, seeds: Sequence[int] = SEEDS, **options: float) -> tuple[str, str, float]:
    """Fuse by the activations of several draws of samples; fused, aligned A, seconds at most."""
    rows, begun = [], time.perf_counter()
    for seed in seeds:
        fusion = fuse(_pair(), by="activations", samples=digits("train").sample(count, seed=seed), **options)
        rows.append((accuracy(fusion.network, digits("test")), accuracy(fusion.aligned[0], digits("test")), fusion))
    fused, aligned, fusions = zip(*rows, strict=True)
    case = f"activations, {count} samples" + "".join(f", {name} {value:g}" for name, value in options.items())
    figures = {"OT average": fused, "aligned A": aligned}
    keep_figures("published", case, figures, seconds=time.perf_counter() - begun)
    return spread(fused), spread(aligned), max(fusion.seconds for fusion in fusions)


def published(_: Trained) -> None:
    """Tables S4 and S6, and masses by importance (S1.2)."""
    test, begun = digits("test"), time.perf_counter()
    table, fusion = compare(_pair(), test), fuse(_pair())
    show("published MLPNets, by weights (paper: 97.72, 97.75, 97.88, 73.84, 96.63)", table)
    aligned = accuracy(fusion.aligned[0], test)
    print(f"aligned A {aligned:.2f} (paper: 97.72); {fusion.seconds:.2f} s")
    figures = {method: [value] for method, value in zip(table["method"], table["accuracy"], strict=True)}
    keep_figures("published", "weights", figures | {"aligned A": [aligned]}, seconds=time.perf_counter() - begun)
    rows = [(count, *_draws(count)) for count in (2, 10, 25, 50, 100, 200, 400)]
    columns = ["samples", "OT average", "aligned A", "seconds at most"]
    show("by activations, five draws (paper, exact, 200: 96.21 +- 0.36)", pd.DataFrame(rows, columns=columns))
    rows = []
    for by in ("weights", "activations"):
        fusion = fuse(_pair(), by=by, samples=digits("train").sample(200), importance=True)
        rows.append((by, accuracy(fusion.network, test), accuracy(fusion.aligned[0], test), fusion.seconds))
    show("masses by importance on 200 samples", pd.DataFrame(rows, columns=["by", *columns[1:3], "seconds"]))


def sinkhorn(_: Trained) -> None:
    """Tables S2 to S4: regularised transport instead of exact one."""
    test = digits("test")
    columns = ["OT average", "aligned A", "seconds at most"]
    rows = []
    for constant in (0.1, 0.05, 0.02, 0.01, 0.005, 0.002):
        fusion = fuse(_pair(), regularization=constant)
        figures = (accuracy(fusion.network, test), accuracy(fusion.aligned[0], test), fusion.seconds)
        kept = {"OT average": figures[:1], "aligned A": figures[1:2]}
        keep_figures("published", f"weights, regularization {constant:g}", kept, seconds=fusion.seconds)
        rows.append((f"{constant:g}", *figures))
    show("Sinkhorn by weights (paper at 0.05: 95.66, 96.32)", pd.DataFrame(rows, columns=["constant", *columns]))
    cases = ((0.5, 200), (0.2, 200), (0.1, 200), (0.05, 200), (0.05, 50), (0.05, 10))
    rows = [
        (f"{constant:g}", count, *_draws(count, seeds=SEEDS[:2], regularization=constant)) for constant, count in cases
    ]
    title = "Sinkhorn by activations, two draws (paper, 200: 95.70, 96.63 at 0.1; 95.78, 97.01 at 0.05)"
    show(title, pd.DataFrame(rows, columns=["constant", "samples", *columns]))


def pruning(_: Trained) -> None:
    """Figure 3 and S8, on the published MLPNet instead of VGG11."""
    for layers in (["fc1"], ["fc2"], None):
        table = repair_pruned(_pair()[0], digits("test"), layers=layers)
        show(f"pruned {'all layers' if layers is None else layers[0]}, fused with the whole network", table)
