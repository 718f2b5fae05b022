"""Features of digits, from a small classifier that is trained here."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from .decoders import SIDE, all_digits

#: Values of a feature, and batches of the training: enough for 97 of 100 test digits.
FEATURES, _STEPS, _BATCH = 64, 1500, 128


class DigitFeatures(nn.Module):
    """A classifier of MNIST's digits, whose last hidden layer tells what a picture shows.

    It takes the place of the Inception network that FID needs, and is far weaker: numbers made with it compare with one
    another, not with published ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(SIDE * SIDE, 256), nn.ReLU(), nn.Linear(256, FEATURES), nn.ReLU())
        self.classes = nn.Linear(FEATURES, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the (n, 64) features of (n, pixels) values in [0, 1]."""
        features: Tensor = self.hidden(pictures)
        return features

    @torch.no_grad()
    def accuracy(self, pictures: Tensor, labels: Tensor) -> float:
        """Return the share of (n, pixels) pictures that it knows."""
        return float((self.classes(self(pictures)).argmax(dim=1) == labels).double().mean())


@lru_cache(maxsize=1)
def digit_features(seed: int = 0) -> DigitFeatures:
    """Train the classifier on MNIST, which takes seconds, and freeze it.

    Raises
    ------
    DataError
        If MNIST is not found.
    """
    pictures, labels = all_digits("train")
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DigitFeatures()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    for _ in range(_STEPS):
        batch = torch.randint(len(pictures), (_BATCH,), generator=generator)
        loss = nn.functional.cross_entropy(model.classes(model(pictures[batch].float() / 255)), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)
