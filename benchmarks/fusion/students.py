"""Supplements S10 to S12: widths of hidden layers, and small networks that learn from large ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import nn

from resmoe_lab.fusion import (
    FUSED,
    VANILLA,
    Images,
    MLPNet,
    Teacher,
    accuracy,
    compare,
    student_initializations,
    train_students,
)

from .common import EPOCHS, HALF, SAMPLES, SEEDS, TENTH, Trained, digits, show, spread

#: Hidden layers of table S11, and how long they are trained here.
HIDDEN = ((40, 20, 10), (200, 100, 50), (400, 200, 100), (1000, 500, 250), (2000, 1000, 500))
SHORT = 3
#: The grid of supplement S12, and how long each of its 30 cells is trained here.
TEMPERATURES, WEIGHTS = (20.0, 10.0, 8.0, 4.0, 1.0), (0.05, 0.1, 0.5, 0.7, 0.95, 0.99)
CELL = 2


def _sixth() -> Images:
    """A sixth of MNIST: the whole would make hours of what is trained here."""
    return digits("train").take(torch.arange(10_000))


def hidden(trained: Trained) -> None:
    """Table S11: two networks of one width, for several widths; the gap is relative to the better one."""
    images, test = _sixth(), digits("test")
    rows = []
    for layers in HIDDEN:
        widths = (784, *layers, 10)
        name = f"hidden{layers[0]}"
        for seed in SEEDS[:2]:
            starts = (seed, 100 + seed)
            pair = [trained.get(name, lambda w=widths: MLPNet(w), images, start=each, epochs=SHORT) for each in starts]
            for by in ("weights", "activations"):
                scores = compare(pair, test, by=by, samples=images.sample(SAMPLES, seed=seed))
                scores = scores.set_index("method")["accuracy"]
                best = max(scores["network 0"], scores["network 1"])
                gaps = {f"gap of {way}": 100 * (1 - scores[way] / best) for way in (VANILLA, FUSED)}
                rows.append({"layers": str(layers), "by": by, **scores, **gaps})
    table = pd.DataFrame(rows).groupby(["layers", "by"], sort=False).agg(lambda values: spread(values.tolist()))
    show(f"two networks of one width, {SHORT} epochs on 10,000 images, two seeds", table.reset_index())


def _starts(trained: Trained, name: str, small: Sequence[int], seed: int) -> tuple[nn.Module, Mapping[str, nn.Module]]:
    """A teacher, and what a student of the widths `small` may start from."""
    images = _sixth()
    teacher = trained.get("teacher10k", MLPNet, images, start=seed)
    student = trained.get(f"{name}10k", lambda: MLPNet(small), images, start=50 + seed)
    samples = images.sample(SAMPLES, seed=seed)
    return teacher, student_initializations(teacher, student, by="activations", samples=samples, seed=seed)


def students(trained: Trained) -> None:
    """Tables S12, S14 and S15: finetuned, and distilled at the paper's best temperature and weight."""
    images, test = _sixth(), digits("test")
    for name, small, temperature, weight in (("half", HALF, 4.0, 0.05), ("tenth", TENTH, 20.0, 0.7)):
        tables = []
        for seed in SEEDS[:2]:
            teacher, starts = _starts(trained, name, small, seed)
            options = {"epochs": EPOCHS, "seed": 200 + seed}
            finetuned = train_students(starts, images, test, **options).assign(learning="labels alone")
            distilling = Teacher(teacher, temperature, weight)
            distilled = train_students(starts, images, test, teacher=distilling, **options).assign(
                learning="distillation"
            )
            tables += [finetuned, distilled]
            print(f"    teacher {accuracy(teacher, test):.2f}", flush=True)
        table = pd.concat(tables).groupby(["learning", "start"])[["before", "after"]].agg(lambda v: spread(v.tolist()))
        title = f"student of a {name} of the width, temperature {temperature:g}, weight {weight:g}"
        show(f"{title}, {EPOCHS} epochs more, two seeds", table.reset_index())


def distillation(trained: Trained) -> None:
    """Tables S16 and S17: all temperatures, each with its best weight."""
    images, test = _sixth(), digits("test")
    for name, small in (("half", HALF), ("tenth", TENTH)):
        cells, tuned = [], []
        for seed in SEEDS[:2]:
            teacher, starts = _starts(trained, name, small, seed)
            options = {"epochs": CELL, "seed": 200 + seed}
            tuned.append(train_students(starts, images, test, **options))
            for temperature in TEMPERATURES:
                for weight in WEIGHTS:
                    wise = Teacher(teacher, temperature, weight)
                    cell = train_students(starts, images, test, teacher=wise, **options)
                    cells.append(cell.assign(temperature=temperature, weight=weight))
        means = pd.concat(cells).groupby(["start", "temperature", "weight"])["after"].mean().reset_index()
        best = means.loc[means.groupby(["start", "temperature"])["after"].idxmax()]
        best["shown"] = [
            f"{after:.2f} ({weight:g})" for after, weight in zip(best["after"], best["weight"], strict=True)
        ]
        table = best.pivot(index="temperature", columns="start", values="shown").sort_index(ascending=False)
        over = best.groupby("start")["after"].mean().map("{:.2f}".format).rename("mean")
        labels = pd.concat(tuned).groupby("start")["after"].mean().map("{:.2f}".format).rename("labels alone")
        table = pd.concat([table.rename(index="{:g}".format), over.to_frame().T, labels.to_frame().T])
        title = f"student of a {name} of the width, {CELL} epochs more, two seeds"
        show(f"{title}: best accuracy (its weight)", table.rename_axis("temperature").reset_index())
