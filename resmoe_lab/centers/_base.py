"""What a center is, what a way to find one is, and the registry of the ways."""

from __future__ import annotations

import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from .._core.deprecation import warn_renamed
from .._core.errors import UsageError
from .._core.progress import Progress, silent
from .._core.registry import Registry
from ..experts import Block, ExpertStack, LayerShape
from ..store.encodings import Encoded, Encoding, encode_rows
from ..transport import Certificate, SearchConfig, objective
from ..transport.cost import BUFFER_ENTRIES
from ..transport.rows import blocks
from ._statistics import Statistics


@dataclass(frozen=True)
class Center:
    """A common expert and the permutations that align every expert with it.

    Parameters
    ----------
    name
        The way it was found (a key of the registry of centers).
    matrix
        (p_I, D) float32 tensor.
    permutations
        (N, p_I) int64 tensor: row i of the aligned expert k is row ``permutations[k, i]`` of W_k.
    objective
        (1/N) sum_k ||W_k[T_k] - matrix||_F^2, the approximation error with no residual kept.
    solver
        What computed it.
    history
        Objective after each step, where there were steps.
    iterations, seconds
        How much work it took.
    certificate
        Lower bound and gap, where they were computed.
    outputs
        (N, p) int64 where the experts' outputs are permuted too: output j of the center as expert k has it is the
        center's output ``outputs[k, j]``. None: the outputs stay as they are.
    stored
        Whether there is anything to store: not where the center is none at all.
    """

    name: str
    matrix: torch.Tensor
    permutations: torch.Tensor
    objective: float
    solver: str
    history: tuple[Any, ...]
    iterations: int
    seconds: float
    certificate: Certificate | None
    outputs: torch.Tensor | None = None
    stored: bool = True

    @property
    def center(self) -> torch.Tensor:
        """The old name of `matrix`."""
        warn_renamed("Center.center", "Center.matrix")
        return self.matrix

    def expert(self, k: int) -> torch.Tensor:
        """Return the (p_I, D) center as expert k has it: with the expert's order of outputs in the columns of W2^T."""
        if self.outputs is None:
            return self.matrix
        start = self.matrix.shape[1] - self.outputs.shape[1]
        order = self.outputs[k].to(self.matrix.device) + start
        return torch.cat([self.matrix[:, :start], self.matrix[:, order]], dim=1)

    def residuals(self, stack: ExpertStack) -> Iterator[torch.Tensor]:
        """Yield the (p_I, D) residual R_k = W_k[T_k] - center of each expert, one at a time."""
        for k, (weights, permutation) in enumerate(zip(stack.weights, self.permutations, strict=True)):
            yield weights[permutation.to(weights.device)].sub_(self.expert(k))

    def encode(self, columns: Sequence[Block], encoding: Encoding) -> tuple[Encoded, ...]:
        """Encode the rows of each block of columns."""
        return tuple(encode_rows(self.matrix[:, block.start : block.stop], encoding) for block in columns)

    def rounded(self, encoded: Sequence[Encoded]) -> Center:
        """Return the center whose matrix is what :meth:`encode` has stored of it."""
        dtype = self.matrix.dtype
        return replace(self, matrix=torch.cat([block.decode(dtype) for block in encoded], dim=1))


class CenterMethod(ABC):
    """One way to find a center: subclass it in a file of its own and register it.

    Its options are the keywords of its ``__init__``.

    Parameters
    ----------
    seed
        For whatever is random.

    Attributes
    ----------
    name
        What users type.
    needs_statistics, needs_fisher
        Whether it cannot do without calibration text, and without the Fisher information of it.
    needs_only_usage
        Whether of such text the usage of the experts is enough, which a routing trace tells too.
    permutes_outputs
        Whether it gives each expert an order of its outputs, which packed checkpoints cannot hold.
    stored
        Whether there is a center to store.
    """

    name: ClassVar[str]
    needs_statistics: ClassVar[bool] = False
    needs_fisher: ClassVar[bool] = False
    needs_only_usage: ClassVar[bool] = False
    permutes_outputs: ClassVar[bool] = False
    stored: ClassVar[bool] = True

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    @abstractmethod
    def find(self, stack: ExpertStack, *, statistics: Statistics | None = None, progress: Progress = silent) -> Center:
        """Find the center of a layer's experts.

        Parameters
        ----------
        stack
            The experts of one layer.
        statistics
            What calibration text tells about the layer, where the way needs it.
        progress
            Called with every step; raising from it cancels.
        """

    def search(self, shape: LayerShape, *, near_duplicates: bool) -> SearchConfig | None:
        """Forecast memory, disk and time of the search, where it takes any worth mentioning beside the experts."""
        return None

    def like_whole(self, shape: LayerShape, *, near_duplicates: bool) -> CenterMethod:
        """Return the way that a layer of this shape is searched in, to be timed on a smaller one."""
        return self

    def cheaper(self) -> list[tuple[str, CenterMethod]]:
        """Return ways that take less memory, each with the command-line options that choose it."""
        return []


CENTERS: Registry[type[CenterMethod]] = Registry("center", "resmoe_lab.centers")


def center_method(name: str, *, seed: int = 0, options: Mapping[str, Any] | None = None) -> CenterMethod:
    """Make the way of that name, with its options.

    Raises
    ------
    UsageError
        If there is no such center, or it has no such option.
    """
    center_class, options = CENTERS[name], options or {}
    parameters = inspect.signature(center_class).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        allowed = [option for option in parameters if option != "seed"]
        for option in options:
            if option not in allowed:
                expected = f"expected some of {', '.join(allowed)}" if allowed else "it has none"
                raise UsageError(f"center {name!r} has no option {option!r}: {expected}")
    return center_class(seed=seed, **options)


def mean_of(stack: ExpertStack, permutations: torch.Tensor, *, name: str, begun: float) -> Center:
    """Return the mean of the experts in given (N, p_I) orders as a center.

    Parameters
    ----------
    stack, permutations
        The experts, and the order of each one's rows.
    name
        The way the orders were found.
    begun
        When, by ``time.perf_counter``.
    """
    center, orders = torch.empty_like(stack.weights[0]), permutations.to(stack.weights.device)
    # A whole matrix in float64 would be the largest thing in memory.
    for part in blocks(*center.shape, entries=BUFFER_ENTRIES):
        total = torch.zeros_like(center[part], dtype=torch.float64)
        for weights, order in zip(stack.weights, orders, strict=True):
            total += weights[order[part]]
        center[part] = total / stack.num_experts
    return Center(
        name=name,
        matrix=center,
        permutations=permutations,
        objective=objective(stack.weights, permutations, center),
        solver=name,
        history=(),
        iterations=1,
        seconds=time.perf_counter() - begun,
        certificate=None,
    )
