"""A small image decoder, whose manifold constrains barycenters of images."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from .._core.datasets import find_data
from .._core.idx import read_idx
from .._core.progress import Progress, Tick, silent

#: Pixels of a digit's side.
SIDE = 28
_STEMS = {"train": "train", "test": "t10k"}


@cache
def all_digits(part: str) -> tuple[Tensor, Tensor]:
    """Return MNIST's images as (n, 784) bytes, and their labels.

    Parameters
    ----------
    part
        ``"train"`` or ``"test"``.

    Raises
    ------
    DataError
        If MNIST is not found.
    """
    stem = _STEMS[part]
    pictures = read_idx(find_data(f"mnist/{stem}-images-idx3-ubyte.gz"), axes=3)
    labels = read_idx(find_data(f"mnist/{stem}-labels-idx1-ubyte.gz"), axes=1)
    return torch.from_numpy(pictures.reshape(len(pictures), -1).copy()), torch.from_numpy(labels.astype(np.int64))


@cache
def digits(*labels: int) -> Tensor:
    """Return MNIST's training images of some digits as (n, 784) values in [0, 1].

    Raises
    ------
    DataError
        If MNIST is not found.
    """
    pictures, shown = all_digits("train")
    return pictures[torch.isin(shown, torch.tensor(labels))].float() / 255


class Decoder(nn.Module):
    """A variational autoencoder, whose decoder takes the place of a large image generator.

    Parameters
    ----------
    pixels
        Number of values of an image.
    codes
        Dimension of a code.
    width
        Number of hidden neurons.
    """

    def __init__(self, pixels: int, *, codes: int = 8, width: int = 256) -> None:
        super().__init__()
        self.codes = codes
        layers = [nn.Linear(pixels, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2 * codes)]
        self.encoder = nn.Sequential(*layers)
        self.decoder = nn.Sequential(
            nn.Linear(codes, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, pixels),
            nn.Sigmoid(),
        )

    def forward(self, codes: Tensor) -> Tensor:
        """Decode (..., codes) into (..., pixels) in [0, 1]."""
        pictures: Tensor = self.decoder(codes)
        return pictures

    def encode(self, pictures: Tensor) -> Tensor:
        """Return the mean codes of (..., pixels)."""
        return self.encoder(pictures)[..., : self.codes]


def train_decoder(
    pictures: Tensor, *, codes: int = 8, steps: int = 1500, seed: int = 0, progress: Progress = silent
) -> Decoder:
    """Train a variational autoencoder on (n, pixels) images in [0, 1], and freeze it.

    Parameters
    ----------
    pictures
        Training images.
    codes, steps, seed
        Dimension of the codes, number of batches of 128, and seed.
    progress
        Called with the loss; raising from it cancels.

    References
    ----------
    Kingma and Welling, Auto-encoding variational Bayes (2014).
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Decoder(pictures.shape[1], codes=codes)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        batch = pictures[torch.randint(len(pictures), (128,), generator=generator)]
        mean, log_variance = model.encoder(batch).chunk(2, dim=1)
        scale = (0.5 * log_variance).exp()
        latent_codes = mean + scale * torch.randn(mean.shape, generator=generator)
        # The likelihood of pixels is Gaussian with a standard deviation of 0.1.
        reconstruction = 50 * (model(latent_codes) - batch).square().sum(dim=1)
        divergence = 0.5 * (mean**2 + scale**2 - 1 - log_variance).sum(dim=1)
        loss = (reconstruction + divergence).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            progress(Tick("train the decoder", step, steps, {"loss": float(loss.detach())}))
    return model.eval().requires_grad_(False)
