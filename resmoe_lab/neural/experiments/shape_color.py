"""Shape-Color: a barycenter with the shapes of one distribution and the colours of another."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..costs import KL, quadratic
from ..decoders import SIDE, Decoder, digits, train_decoder
from ..features import digit_features
from ..problem import Problem, Sampler, Samples
from ..sample_metrics import precision_recall
from ._base import DECODER_SETTINGS, EXPERIMENTS, PICTURES_PER_ROW, Case, Experiment, solver_case

#: Hues of the second distribution, from red over yellow to green, as a fraction of the phase.
HUES = (0.0, 0.5)
_COUNT = 1000
_SHARPNESS = 20.0
#: Scale of the colour cost of 3 values, to balance the shape cost of 784.
_COLOR_SCALE = 40.0


def color_of_hue(hue: Tensor) -> Tensor:
    """Return the (..., 3) RGB values of (...) hues in [0, 1) at full saturation and value."""
    offsets = torch.tensor([0.0, 2 / 3, 1 / 3])
    phase = (hue.unsqueeze(-1) + offsets) % 1.0
    return ((phase * 6 - 3).abs() - 1).clamp(0, 1)


def hue_of_color(color: Tensor) -> Tensor:
    """Return (...) hues in [0, 1) of (..., 3) colours."""
    red, green, blue = color.unbind(dim=-1)
    high, low = color.max(dim=-1).values, color.min(dim=-1).values
    chroma = (high - low).clamp(min=1e-6)
    sector = torch.where(
        high == red,
        ((green - blue) / chroma) % 6,
        torch.where(high == green, (blue - red) / chroma + 2, (red - green) / chroma + 4),
    )
    return (sector / 6) % 1.0


def decolorized(pictures: Tensor) -> Tensor:
    """Return the (..., 784) values (largest channel) of (..., 2352) colour images."""
    return pictures.unflatten(-1, (SIDE * SIDE, 3)).amax(dim=-1)


def main_color(pictures: Tensor) -> Tensor:
    """Return the (..., 3) mean colour of the bright pixels of (..., 2352) images.

    Brightness has a soft threshold of 0.8. The mean is of RGB values, whereas the paper takes means of hues, which are
    discontinuous at red.
    """
    pixels = pictures.unflatten(-1, (SIDE * SIDE, 3))
    weights = torch.sigmoid(_SHARPNESS * (pixels.amax(dim=-1) - 0.8))
    return (weights.unsqueeze(-1) * pixels).sum(dim=-2) / weights.sum(dim=-1, keepdim=True).clamp(min=1e-3)


@lru_cache(maxsize=2)
def coloured_decoder(steps: int) -> Decoder:
    """Train the decoder on twos and threes of all colours."""
    shapes = digits(2, 3)
    hues = torch.rand(len(shapes), generator=torch.Generator().manual_seed(0))
    pictures = (shapes.unsqueeze(-1) * color_of_hue(hues).unsqueeze(1)).flatten(1)
    return train_decoder(pictures, codes=12, steps=steps)


def shapes_and_colors() -> Problem:
    """Return gray twos, and colours from red to green."""

    def draw(count: int, generator: torch.Generator) -> Tensor:
        low, high = HUES
        return color_of_hue(low + (high - low) * torch.rand(count, generator=generator))

    return Problem([Samples(digits(2)), Sampler(draw, 3)], one_space=False)


def _cases(quick: bool) -> Iterator[Case]:
    decoder = coloured_decoder(300 if quick else 4000)
    problem = shapes_and_colors()

    def shape_cost(points: Tensor, codes: Tensor) -> Tensor:
        return quadratic(points, decolorized(decoder(codes)))

    def color_cost(points: Tensor, codes: Tensor) -> Tensor:
        return _COLOR_SCALE * quadratic(points, main_color(decoder(codes)))

    def measure(solver: Any) -> dict[str, float]:
        points = problem.sample(_COUNT, torch.Generator().manual_seed(18))
        shapes, colors = (decoder(codes) for codes in solver.push(points).detach())
        hues = [hue_of_color(main_color(images)) for images in (shapes, colors)]
        inside = [float(((hue >= HUES[0] - 0.04) & (hue <= HUES[1] + 0.04)).float().mean()) for hue in hues]
        gray = points[0]
        features = digit_features()
        precision, recall = precision_recall(features(gray), features(decolorized(colors)))
        unexplained = (decolorized(shapes) - gray).square().sum() / (gray - gray.mean(dim=0)).square().sum()
        return {
            "share of right colours on given shapes": inside[0],
            "share of right colours on given colours": inside[1],
            "unexplained shape, %": 100 * float(unexplained),
            "precision of shapes on given colours": precision,
            "recall of shapes on given colours": recall,
            "distance of given colours": float((main_color(colors) - points[1][:, :3]).norm(dim=1).mean()),
        }

    def picture_rows(solver: Any) -> dict[str, np.ndarray]:
        shapes, colors = points = problem.sample(PICTURES_PER_ROW, torch.Generator().manual_seed(21))
        by_shape, by_color = (decoder(codes).detach().unflatten(-1, (SIDE, SIDE, 3)) for codes in solver.push(points))
        return {
            "given shapes": shapes.unflatten(-1, (SIDE, SIDE)).numpy(),
            "in colours": by_shape.numpy(),
            "given colours": colors[:, None, None, :3].expand(-1, SIDE, SIDE, -1).numpy(),
            "as shapes": by_color.numpy(),
        }

    for epsilon in (0.01, 0.1):
        yield solver_case(
            f"KL {epsilon:g}",
            problem,
            "not",
            measure=measure,
            settings={
                **DECODER_SETTINGS,
                **{"steps": 60 if quick else 600, "plan": "gaussian", "draws": 2, "dimension": decoder.codes},
            },
            grounds=[shape_cost, color_cost],
            regularizer=KL(epsilon),
            pictures=picture_rows,
        )


EXPERIMENTS.register("shape-color")(
    Experiment(
        "Twos in colours from red to green, on the manifold of a small decoder of twos and threes",
        "Kolesov et al. (2024), section 5.2, Figure 2, with a small decoder standing in for StyleGAN",
        _cases,
    )
)
