"""What every way to compute a continuous barycenter shares."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from ..._core.errors import UsageError
from ..._core.registry import Registry
from ..networks import StackedICNN
from ..problem import Problem

#: The share of the first learning rate that is left at the last step.
_LAST_RATE = 0.01


@dataclass(frozen=True)
class Settings:
    """What is common to all trainings.

    Parameters
    ----------
    steps
        Outer iterations; the learning rates fall along a half cosine over all of them.
    batch
        Points of every marginal a batch.
    learning_rate
        Adam's, at first.
    """

    steps: int = 1000
    batch: int = 256
    learning_rate: float = 1e-3


S = TypeVar("S", bound=Settings)


class Solver(ABC, Generic[S]):
    """A barycenter in the making: networks, their optimizers, and one outer iteration.

    Parameters
    ----------
    problem
        What is averaged.
    settings
        The solver's own.
    seed
        Decides first weights and every draw.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reference: ClassVar[str]
    settings_type: ClassVar[type[Settings]]
    #: Whether it can say where a point of a marginal goes.
    has_maps: ClassVar[bool] = True

    def __init__(self, problem: Problem, settings: S, *, seed: int = 0) -> None:
        if settings.steps < 1 or settings.batch < 1 or not settings.learning_rate > 0:
            raise UsageError(f"{settings}: steps, batch and learning rate must be positive")
        self.problem, self.settings, self.seed = problem, settings, seed
        self.generator = torch.Generator().manual_seed(seed)
        self.done = 0
        self.modules: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Adam] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build()

    @abstractmethod
    def _build(self) -> None:
        """Make the networks; whatever is random comes from torch's own generator, which has the seed."""

    @abstractmethod
    def _step(self) -> float:
        """Do one outer iteration and return its loss."""

    def sample(self, count: int, *, seed: int = 1) -> Tensor:
        """Draw (count, D) points of the barycenter as it is now: images of all marginals, from each by its weight."""
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(self.problem.weights, count, replacement=True, generator=generator)
        return self.push(self.problem.sample(count, generator))[chosen, torch.arange(count)]

    def push(self, points: Tensor) -> Tensor:
        """Map (N, M, D) points of the marginals to the barycenter; (N, M, D).

        Raises
        ------
        UsageError
            If the solver has no maps.
        """
        raise UsageError(f"{self.name} has no maps from the marginals, only points of the barycenter")

    def step(self) -> float:
        """Do one outer iteration at the learning rate that it is due, and return its loss."""
        done = self.done / self.settings.steps
        rate = _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * rate
        loss = self._step()
        self.done += 1
        return loss

    def probe(self) -> Tensor:
        """Points that tell how far the barycenter has moved: always of the same draw."""
        with torch.no_grad():
            return self.sample(512, seed=2)

    def learn(
        self, name: str, module: nn.Module, *, rate: float = 1.0, betas: tuple[float, float] = (0.9, 0.99)
    ) -> Any:
        """Take a network into the training, at a multiple of the settings' learning rate, and return it."""
        first = self.settings.learning_rate * rate
        self.modules[name] = module
        groups = [{"params": list(module.parameters()), "lr": first, "initial_lr": first}]
        self.optimizers[name] = torch.optim.Adam(groups, betas=betas, fused=True)
        return module

    def draw(self) -> Tensor:
        """Draw a batch of every marginal: (N, M, D)."""
        return self.problem.sample(self.settings.batch, self.generator)

    def noise(self, *shape: int) -> Tensor:
        """Draw standard Gaussian noise."""
        return torch.randn(*shape, generator=self.generator)

    def state(self) -> dict[str, Tensor]:
        """Everything that a training needs to go on, by name."""
        tensors = {"generator": self.generator.get_state(), "done": torch.tensor(self.done)}
        for name, module in self.modules.items():
            tensors |= {f"{name}.{key}": value.detach().clone() for key, value in module.state_dict().items()}
        for name, place, parameter in self._learned():
            moments = self.optimizers[name].state.get(parameter, {})
            tensors |= {f"adam.{name}.{place}.{key}": value.detach().clone() for key, value in moments.items()}
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go back to what :meth:`state` returned."""
        self.generator.set_state(tensors["generator"])
        self.done = int(tensors["done"])
        for name, module in self.modules.items():
            module.load_state_dict(_below(tensors, name))
        for name, place, parameter in self._learned():
            moments = _below(tensors, f"adam.{name}.{place}")
            self.optimizers[name].state[parameter] = {key: value.clone() for key, value in moments.items()}

    def _learned(self) -> Iterator[tuple[str, int, nn.Parameter]]:
        for name, module in self.modules.items():
            for place, parameter in enumerate(module.parameters()):
                yield name, place, parameter

    def descend(self, loss: Tensor) -> float:
        """Lower a loss over all networks at once, make the convex ones convex again, and return what it was."""
        loss.backward()
        for name in self.optimizers:
            self.update(name)
        for module in self.modules.values():
            if isinstance(module, StackedICNN):
                module.clip()
        return float(loss.detach())

    def update(self, name: str) -> None:
        """Take one optimizer step with the gradients at hand, and forget them."""
        self.optimizers[name].step()
        self.optimizers[name].zero_grad(set_to_none=True)


def fixed_noise(*shape: int, seed: int) -> Tensor:
    """Draw standard Gaussian noise that is always the same, apart from any training's own draws."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def only_one(problem: Problem, name: str) -> None:
    """Refuse more than one marginal.

    Raises
    ------
    UsageError
        If there are several.
    """
    if len(problem) != 1:
        raise UsageError(f"{name} is a generative model of one distribution, not of {len(problem)}: take nwb for those")


def _below(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


#: A solver's class with the class of its settings.
SOLVERS: Registry[type[Solver[Any]]] = Registry("barycenter solver", __package__)
