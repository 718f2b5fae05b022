"""Figures 2 and 4, supplement S7: a skill that only one of the networks has."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import nn

from resmoe_lab.fusion import ENSEMBLE, FUSED, VANILLA, Images, MLPNet, compare, fuse, mixing_curve, skill_split

from .common import HALF, SAMPLES, SEEDS, WIDE, Trained, digits, keep_figures, show, spread

#: S7: shares of the images other than 4, and proportions of the four networks.
FOUR = (0.1, 0.3, 0.5, 0.1)
PROPORTIONS = ((0.7, 0.1, 0.2, 0.1), (0.6, 0.1, 0.2, 0.1), (0.7, 0.15, 0.2, 0.15), (0.7, 0.1, 0.3, 0.1))


def _curves(
    pairs: list[list[nn.Module]], parts: list[list[Images]], by: str, *, test: Images | None = None
) -> pd.DataFrame:
    """Accuracy in all proportions, means and deviations over the seeds; only A's own images are seen."""
    tables = []
    for seed, (pair, part) in enumerate(zip(pairs, parts, strict=True)):
        samples = part[0].sample(SAMPLES, seed=seed) if by == "activations" else None
        fusion = fuse(pair, by=by, samples=samples)
        weights = np.round(np.arange(0, 1.01, 0.1), 1).tolist()
        table = mixing_curve(pair, test or digits("test"), fusion=fusion, weights=weights)
        tables.append(table[table["label"] == "all"])
    rows = pd.concat(tables).groupby(["weight", "method"])["accuracy"].agg(lambda v: spread(v.tolist())).unstack()
    order = [name for name in ("A", "B", FUSED, VANILLA, ENSEMBLE) if name in rows]
    return rows[order].reset_index()


def _pairs(trained: Trained, widths: tuple[Sequence[int], Sequence[int]], *, same: bool) -> tuple[list, list]:
    pairs, parts = [], []
    for seed in SEEDS:
        part = skill_split(digits("train"), (0.1, 0.9), digit=4, seed=seed)
        starts = (seed, seed if same else 100 + seed)
        made = [
            trained.get(f"skill{which}{w[1]}", lambda w=w: MLPNet(w), images, start=start)
            for which, w, images, start in zip("AB", widths, part, starts, strict=True)
        ]
        pairs.append(made)
        parts.append(part)
    return pairs, parts


def transfer(trained: Trained) -> None:
    """Figure 2: the digit 4 is known to A alone, which has 10 % of the rest."""
    for same in (False, True):
        pairs, parts = _pairs(trained, (WIDE, WIDE), same=same)
        for by in ("activations", "weights"):
            kind = "same" if same else "different"
            show(f"digit 4, {kind} initialisation, {by}, five seeds (paper's best: 93.11)", _curves(pairs, parts, by))


def many(trained: Trained) -> None:
    """Supplement S7: four models of one initialisation."""
    fours, parts = [], []
    for seed in SEEDS[:3]:
        part = skill_split(digits("train"), FOUR, digit=4, seed=seed)
        fours.append([trained.get(f"four{'ABCD'[k]}", MLPNet, images, start=seed) for k, images in enumerate(part)])
        parts.append(part)
    for proportions in PROPORTIONS:
        title = f"four models at {proportions} (paper at the first: 95.0, 80.6, 93.6)"
        show(title, _fours(fours, parts, proportions, digits("test"), name="four, normalised"))


def _fours(
    fours: list[list[nn.Module]], parts: list[list[Images]], proportions: Sequence[float], test: Images, *, name: str
) -> pd.DataFrame:
    """Accuracies, means and deviations over the seeds; fused into A and into C, by what A's own images tell.

    They are kept under the experiment's `name`.
    """
    begun = time.perf_counter()
    weights = (np.array(proportions) / sum(proportions)).tolist()
    rows = []
    for seed, (four, part) in enumerate(zip(fours, parts, strict=True)):
        how = {"weights": weights, "by": "activations", "samples": part[0].sample(SAMPLES, seed=seed)}
        row: dict[str, float] = {}
        for reference in (0, 2):
            accuracies = compare(four, test, reference=reference, **how).set_index("method")["accuracy"]
            row |= accuracies.rename({FUSED: f"{FUSED} into {'ABCD'[reference]}"}).to_dict()
        rows.append(row)
    figures = pd.DataFrame(rows)
    values = {str(metric): figures[metric].tolist() for metric in figures}
    case = " ".join(f"{share:g}" for share in proportions)
    keep_figures(name, case, values, seconds=time.perf_counter() - begun)
    table = figures.agg(lambda values: spread(values.tolist()))
    return table.rename("accuracy").reset_index()


def pixels(trained: Trained) -> None:
    """Figure 2 and S7 again, trained and aligned on pixels from 0 to 255 as the published code does."""
    seen, seeds = _from_0_to_255(digits("train")), SEEDS[:3]
    tests = {"normalised (as published)": digits("test"), "0 to 255": _from_0_to_255(digits("test"))}
    parts = [skill_split(seen, FOUR, digit=4, seed=seed) for seed in seeds]
    fours = [
        [trained.get(f"pixels{'ABCD'[k]}", MLPNet, images, start=seed) for k, images in enumerate(part)]
        for seed, part in zip(seeds, parts, strict=True)
    ]
    for name, test in tests.items():
        for proportions in PROPORTIONS:
            title = f"four models trained on 0 to 255, tested on {name}, at {proportions}, three seeds"
            show(title, _fours(fours, parts, proportions, test, name=f"four, 0 to 255, tested on {name}"))
    parts = [skill_split(seen, (0.1, 0.9), digit=4, seed=seed) for seed in seeds]
    pairs = [
        [trained.get(f"pixels-skill{'AB'[k]}", MLPNet, part[k], start=seed + 100 * k) for k in (0, 1)]
        for seed, part in zip(seeds, parts, strict=True)
    ]
    for name, test in tests.items():
        title = f"digit 4, different initialisation, trained on 0 to 255, tested on {name}, activations, three seeds"
        show(title, _curves(pairs, parts, "activations", test=test))


def _from_0_to_255(images: Images) -> Images:
    black, white = digits("train").inputs.aminmax()
    return Images((images.inputs - black) / (white - black) * 255, images.labels)


def widths(trained: Trained) -> None:
    """Figure 4 and S8: a small client A fused into a server B twice as wide."""
    pairs, parts = _pairs(trained, (HALF, WIDE), same=False)
    for by in ("activations", "weights"):
        show(f"client of half the width into the server, digit 4, {by}, five seeds", _curves(pairs, parts, by))
