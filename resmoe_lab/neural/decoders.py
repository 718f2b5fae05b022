"""A small decoder of pictures: the manifold that a barycenter of pictures is kept on."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from .._core.datasets import find_data
from .._core.idx import read_idx
from .._core.progress import Progress, Tick, silent

#: Digits are averaged over 2 x 2 pixels: 14 x 14 of them.
SIDE = 14


@cache
def digits(*labels: int) -> Tensor:
    """Return MNIST's training pictures of some digits as (n, 196) values in [0, 1].

    Raises
    ------
    DataError
        If MNIST is not there.
    """
    pictures = read_idx(find_data("mnist/train-images-idx3-ubyte.gz"), axes=3).reshape(-1, SIDE, 2, SIDE, 2)
    known = read_idx(find_data("mnist/train-labels-idx1-ubyte.gz"), axes=1)
    small = pictures[np.isin(known, labels)].mean(axis=(2, 4), dtype=np.float32) / 255
    return torch.from_numpy(small.reshape(len(small), -1))


class Decoder(nn.Module):
    """An autoencoder whose codes are near N(0, I), and whose decoder stands in for a large generator of pictures.

    Parameters
    ----------
    pixels
        Values of a picture.
    codes
        Dimension of a code.
    width
        Hidden neurons.
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
    """Train a variational autoencoder on (n, pixels) pictures in [0, 1], and freeze it.

    Parameters
    ----------
    pictures
        What it is to draw.
    codes, steps, seed
        Dimension of the codes, batches of 128, and what decides weights and draws.
    progress
        Told the loss; raising from it stops.

    References
    ----------
    Kingma and Welling, Auto-encoding variational Bayes (2014).
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Decoder(pictures.shape[1], codes=codes)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        batch = pictures[torch.randint(len(pictures), (128,), generator=generator)]
        mean, logarithm = model.encoder(batch).chunk(2, dim=1)
        scale = (0.5 * logarithm).exp()
        drawn = mean + scale * torch.randn(mean.shape, generator=generator)
        # Gaussian pixels with a deviation of 0.1.
        missed = 50 * (model(drawn) - batch).square().sum(dim=1)
        divergence = 0.5 * (mean**2 + scale**2 - 1 - logarithm).sum(dim=1)
        loss = (missed + divergence).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        if step % 50 == 0:
            progress(Tick("train the decoder", step, steps, {"loss": float(loss.detach())}))
    return model.eval().requires_grad_(False)
