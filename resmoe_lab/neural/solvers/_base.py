"""The base class of solvers of continuous barycenters."""

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

#: The final learning rate, relative to the initial one.
_FINAL_RATE = 0.01


@dataclass(frozen=True)
class Settings:
    """Settings of all solvers.

    Parameters
    ----------
    steps
        Number of outer iterations, over which the learning rates follow a half cosine.
    batch
        Number of points of every marginal in a batch.
    learning_rate
        Initial learning rate of Adam.
    """

    steps: int = 1000
    batch: int = 256
    learning_rate: float = 1e-3


S = TypeVar("S", bound=Settings)


class Solver(ABC, Generic[S]):
    """A solver: its networks, their optimizers, and one outer iteration.

    Parameters
    ----------
    problem
        The distributions and their weights.
    settings
        Settings of the solver.
    seed
        Seed of initial weights and samples.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reference: ClassVar[str]
    settings_type: ClassVar[type[Settings]]
    #: Whether the solver has maps from the marginals to the barycenter.
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
        """Build the networks; random numbers come from torch's global generator, which has been seeded."""

    @abstractmethod
    def _step(self) -> float:
        """Do one outer iteration and return its loss."""

    def sample(self, count: int, *, seed: int = 1) -> Tensor:
        """Draw (count, D) points of the current barycenter: images of the marginals, in proportion to their weights."""
        generator = torch.Generator().manual_seed(seed)
        marginals = torch.multinomial(self.problem.weights, count, replacement=True, generator=generator)
        return self.push(self.problem.sample(count, generator))[marginals, torch.arange(count)]

    def push(self, points: Tensor) -> Tensor:
        """Map (N, M, D) points of the marginals to the barycenter; (N, M, D).

        Raises
        ------
        UsageError
            If the solver has no maps.
        """
        raise UsageError(f"{self.name} has no maps from the marginals, only points of the barycenter")

    def step(self) -> float:
        """Do one outer iteration with the scheduled learning rate, and return its loss."""
        progress = self.done / self.settings.steps
        rate = _FINAL_RATE + (1 - _FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * rate
        loss = self._step()
        self.done += 1
        return loss

    def probe(self) -> Tensor:
        """Return points of the barycenter that depend on the training state only, to measure its drift."""
        with torch.no_grad():
            return self.sample(512, seed=2)

    def register_network(
        self, name: str, module: nn.Module, *, rate: float = 1.0, betas: tuple[float, float] = (0.9, 0.99)
    ) -> Any:
        """Register a network for training, at a multiple of the settings' learning rate, and return it."""
        learning_rate = self.settings.learning_rate * rate
        self.modules[name] = module
        groups = [{"params": list(module.parameters()), "lr": learning_rate, "initial_lr": learning_rate}]
        self.optimizers[name] = torch.optim.Adam(groups, betas=betas, fused=True)
        return module

    def draw(self) -> Tensor:
        """Draw a batch of every marginal, (N, M, D)."""
        return self.problem.sample(self.settings.batch, self.generator)

    def noise(self, *shape: int) -> Tensor:
        """Draw standard Gaussian noise."""
        return torch.randn(*shape, generator=self.generator)

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that resuming the training needs, by name."""
        tensors = {"generator": self.generator.get_state(), "done": torch.tensor(self.done)}
        for name, module in self.modules.items():
            tensors |= {f"{name}.{key}": value.detach().clone() for key, value in module.state_dict().items()}
        for name, index, parameter in self._named_parameters():
            moments = self.optimizers[name].state.get(parameter, {})
            tensors |= {f"adam.{name}.{index}.{key}": value.detach().clone() for key, value in moments.items()}
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore a state that :meth:`state` returned."""
        self.generator.set_state(tensors["generator"])
        self.done = int(tensors["done"])
        for name, module in self.modules.items():
            module.load_state_dict(_with_prefix(tensors, name))
        for name, index, parameter in self._named_parameters():
            moments = _with_prefix(tensors, f"adam.{name}.{index}")
            self.optimizers[name].state[parameter] = {key: value.clone() for key, value in moments.items()}

    def _named_parameters(self) -> Iterator[tuple[str, int, nn.Parameter]]:
        for name, module in self.modules.items():
            for index, parameter in enumerate(module.parameters()):
                yield name, index, parameter

    def minimize(self, loss: Tensor) -> float:
        """Update all networks to decrease a loss, project the convex ones, and return the loss."""
        loss.backward()
        for name in self.optimizers:
            self.update(name)
        for module in self.modules.values():
            if isinstance(module, StackedICNN):
                module.clip()
        return float(loss.detach())

    def update(self, name: str) -> None:
        """Take one optimizer step, and reset the gradients."""
        self.optimizers[name].step()
        self.optimizers[name].zero_grad(set_to_none=True)


def seeded_noise(*shape: int, seed: int) -> Tensor:
    """Draw standard Gaussian noise from a generator with its own seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def check_single_marginal(problem: Problem, name: str) -> None:
    """Check that a problem has one marginal only.

    Raises
    ------
    UsageError
        If it has several.
    """
    if len(problem) != 1:
        raise UsageError(
            f"{name} is a generative model of one distribution, not of {len(problem)}: use nwb for several"
        )


def _with_prefix(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


#: The solver classes by name.
SOLVERS: Registry[type[Solver[Any]]] = Registry("barycenter solver", __package__)
