"""Small stand-ins of table 1: a VGG11 and a ResNet18 on the sample of CIFAR-10, and on a sixth of MNIST."""

from __future__ import annotations

import pandas as pd
import torch
from torch.nn import functional

from resmoe_lab.fusion import VGG11, Images, ResNet18, cifar10_sample, compare

from .common import Trained, digits, show


def convolutions(trained: Trained) -> None:
    """Table 1's networks, small; batch norms of the averages are measured anew, and once not."""
    for data, images, test in (("mnist", *_padded()), ("cifar", cifar10_sample("train"), cifar10_sample("test"))):
        channels = images.inputs.shape[1]
        kinds = {
            "vgg": lambda c=channels: VGG11(16, channels=c, batch_norm=True),
            "resnet": lambda c=channels: ResNet18(8, channels=c),
        }
        for kind, make in kinds.items():
            options = {"epochs": 12 if data == "cifar" else 3, "learning_rate": 0.05, "momentum": 0.9}
            pair = [trained.get(f"{data}-{kind}", make, images, start=seed, **options) for seed in (0, 1)]
            rows = []
            norms = images.sample(2000 if data == "mnist" else 1000)
            for way, how in _ways(kind, images, norms).items():
                rows.append(compare(pair, test, **how).set_index("method")["accuracy"].rename(way))
            show(f"small {kind} on {data}", pd.DataFrame(rows).rename_axis("way").reset_index())


def _ways(kind: str, images: Images, norms: torch.Tensor) -> dict[str, dict[str, object]]:
    ways: dict[str, dict[str, object]] = {"weights, batch norms averaged": {}}
    for by, options in {"weights": {}, "activations": {"by": "activations", "samples": images.sample(100)}}.items():
        how = options | {"batch_norm_inputs": norms}
        ways[by] = how
        if kind == "resnet":
            ways[f"{by}, streams averaged"] = how | {"residual": "average"}
            ways[f"{by}, two rounds"] = how | {"rounds": 2}
            ways[f"{by}, streams averaged, two rounds"] = how | {"rounds": 2, "residual": "average"}
    return ways


def _padded() -> tuple[Images, Images]:
    """MNIST at 32 x 32: ten thousand training images, two thousand test images."""
    parts = digits("train").take(torch.arange(10_000)), digits("test").take(torch.arange(2_000))
    black = float(parts[0].inputs.min())
    first, second = (Images(functional.pad(p.inputs, (2, 2, 2, 2), value=black), p.labels) for p in parts)
    return first, second
