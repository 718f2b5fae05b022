"""Trained networks, images and tables, as all parts need them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn

from resmoe_lab.fusion import Images, mnist, save_network, train

from ..records import keep

SEEDS = range(5)
EPOCHS = 10
SAMPLES = 400
WIDE, HALF, TENTH = (784, 400, 200, 100, 10), (784, 200, 100, 50, 10), (784, 40, 20, 10, 10)


class Trained:
    """Networks by name, trained once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(
        self, name: str, make: Callable[[], nn.Module], images: Images, *, start: int, **options: object
    ) -> nn.Module:
        """Return the network of this name; `start` draws its first weights and its order of images."""
        torch.manual_seed(start)
        network, path = make(), self.folder / f"{name}-{start}.safetensors"
        if path.is_file():
            network.load_state_dict(load_file(path))
            return network.eval()
        started = time.perf_counter()
        options = {"epochs": EPOCHS, "seed": start} | options
        network = train(network, images, **options)
        save_network(network, path)
        print(f"    trained {path.stem} in {time.perf_counter() - started:.0f} s", flush=True)
        return network


@cache
def digits(part: str) -> Images:
    return mnist(part)


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n{table.to_string(index=False, float_format=lambda value: f'{value:.2f}')}", flush=True)


def spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f} +- {np.std(values):.2f}"


def keep_figures(experiment: str, case: str, figures: Mapping[str, Sequence[float]], *, seconds: float) -> None:
    """Keep figures by their metrics, one for each seed, with the seconds that all of the case took."""
    keep(
        "fusion",
        [
            {"experiment": experiment, "case": case, "metric": metric, "seed": seed, "value": float(value)}
            | {"seconds": round(seconds, 1)}
            for metric, values in figures.items()
            for seed, value in enumerate(values)
        ],
    )
