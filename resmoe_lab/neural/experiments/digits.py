"""The barycenter of the digits 0 and 1, in image space and on the manifold of a small decoder."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import ot
import torch
from torch import Tensor

from ...transport import assign, squared_distances
from ..costs import KL, latent_cost, quadratic
from ..decoders import SIDE, Decoder, digits, train_decoder
from ..features import digit_features
from ..metrics import convolutional_barycenter, sliced_w2
from ..problem import Problem
from ..sample_metrics import kernel_mmd, precision_recall
from ._base import DECODER_SETTINGS, EXPERIMENTS, PICTURES_PER_ROW, Case, Experiment, solver_case

#: Points of the metrics. Precision and recall are those of features of a small classifier, trained here.
_COUNT = 1000


@lru_cache(maxsize=2)
def blend_decoder(steps: int) -> Decoder:
    """Train the decoder on pixelwise blends of zeros and ones, of which a barycenter with equal weights consists.

    It is a small variational autoencoder in place of the paper's StyleGAN.
    """
    zeros, ones = digits(0), digits(1)
    random = torch.Generator().manual_seed(0)
    pairs = [part[torch.randint(len(part), (20_000,), generator=random)] for part in (zeros, ones)]
    return train_decoder((pairs[0] + pairs[1]) / 2, codes=16, steps=steps)


@lru_cache(maxsize=1)
def exact_cost() -> float:
    """Return the barycenter's cost between 1,000 zeros and 1,000 ones: sum_k E|x_k - y|^2 / 4, by exact transport.

    With equal weights it is W2^2 / 8, which samples slightly overestimate.
    """
    problem = Problem([digits(0), digits(1)])
    first, second = problem.sample(_COUNT, torch.Generator().manual_seed(16)).double().numpy()
    return float(ot.emd2(ot.unif(_COUNT), ot.unif(_COUNT), ot.dist(first, second))) / 8


def _measure(decode: Any) -> Any:
    def measure(solver: Any) -> dict[str, float]:
        points = solver.problem.sample(_COUNT, torch.Generator().manual_seed(17))
        first, second = (decode(images) for images in solver.push(points).detach())
        cost = sum(
            0.5 * float(quadratic(source, images).mean())
            for source, images in zip(points, (first, second), strict=True)
        )
        exact = exact_cost()
        mmd = kernel_mmd(first, second)
        features = digit_features()
        precision, recall = precision_recall(features(first), features(second))
        among, _ = precision_recall(features(digits(0, 1)[:_COUNT]), features(first))
        return {
            "transport cost": cost,
            "cost of the exact plan between samples": exact,
            "cost ratio": cost / exact,
            "sliced W2 between the two images": sliced_w2(first, second),
            "sliced W2 between zeros and ones": sliced_w2(*points),
            "MMD^2 between the two images": mmd.value,
            "MMD^2, low": mmd.low,
            "MMD^2, high": mmd.high,
            "precision of images of ones among those of zeros": precision,
            "recall of images of zeros among those of ones": recall,
            "precision of images of zeros among digits": among,
        }

    return measure


def ot_interpolations(first: Tensor, second: Tensor) -> Tensor:
    """Return interpolations of images by optimal transport of their mass: a reference for barycenters of digits.

    Parameters
    ----------
    first, second
        (n, pixels) images, which are paired by exact transport.

    Returns
    -------
    Tensor
        (n, pixels), the brightest pixel of each 1.
    """
    partners = second[assign(squared_distances(first, second)).permutation]
    pairs = torch.stack([first, partners], dim=1).unflatten(-1, (SIDE, SIDE))
    barycenters = torch.stack([convolutional_barycenter(pair) for pair in pairs]).flatten(1)
    return (barycenters / barycenters.amax(dim=1, keepdim=True)).float()


def _picture_rows(decode: Any) -> Any:
    def shown(solver: Any) -> dict[str, np.ndarray]:
        points = solver.problem.sample(PICTURES_PER_ROW, torch.Generator().manual_seed(22))
        first, second = (decode(images).detach() for images in solver.push(points).detach())
        rows = {"zeros": points[0], "their images": first, "ones": points[1], "images of ones": second}
        rows["moved ink (POT)"] = ot_interpolations(*points)
        return {name: row.unflatten(-1, (SIDE, SIDE)).numpy() for name, row in rows.items()}

    return shown


def _identity(pictures: Tensor) -> Tensor:
    return pictures


def _cases(quick: bool) -> Iterator[Case]:
    problem = Problem([digits(0), digits(1)])
    steps = 150 if quick else 1500
    yield solver_case(
        "pictures",
        problem,
        "not",
        measure=_measure(_identity),
        # With momentum, maps and potentials of 784 values run away from one another within 150 steps.
        settings={"steps": steps, "batch": 64, "width": 256, "momentum": 0.0},
        pictures=_picture_rows(_identity),
    )
    decoder = blend_decoder(300 if quick else 3000)
    settings = {**DECODER_SETTINGS, "steps": 100 if quick else 600, "dimension": decoder.codes}
    costs = {"classical": (None, "deterministic"), "KL 0.01": (KL(0.01), "gaussian")}
    for name, (regularizer, plan) in costs.items():
        yield solver_case(
            f"decoder, {name}",
            problem,
            "not",
            measure=_measure(decoder),
            settings={**settings, "plan": plan},
            grounds=latent_cost(decoder),
            regularizer=regularizer,
            pictures=_picture_rows(decoder),
        )


EXPERIMENTS.register("digits")(
    Experiment(
        "Between the digits 0 and 1, with a small decoder standing in for StyleGAN",
        "Kolesov et al. (2024), appendix B.2, Figure 5; Fan, Taghvaei and Chen (2021), Figure 6",
        _cases,
    )
)
