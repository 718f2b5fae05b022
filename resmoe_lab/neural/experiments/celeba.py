"""Ave, celeba!: the settings only; it is not run here."""

from __future__ import annotations

from collections.abc import Iterable

from ._base import EXPERIMENTS, Case, Experiment

#: Table 4 of the paper, rows "Ave Celeba": data space, and the latent space of a StyleGAN with 512 codes.
SETTINGS = {
    "weights": (0.25, 0.5, 0.25),
    "batch": 64,
    "inner": 10,
    "learning_rate": 2e-4,
    "steps": 40_000,
    "data": {"shape": (3, 64, 64), "maps": "UNet", "potentials": "ResNet"},
    "latent": {"codes": 512, "maps": "ResNet", "potentials": "ResNet", "epsilon": 0.1, "gamma": 10_000},
}


def _cases(quick: bool) -> Iterable[Case]:
    return []


EXPERIMENTS.register("celeba")(
    Experiment(
        "Faces with a known barycenter",
        "Kolesov et al. (2024), section 5.3, Tables 2, 6 and 7",
        _cases,
        not_run="CelebA is not available here, and 40,000 steps of convolutional networks are days on two CPU cores",
    )
)
