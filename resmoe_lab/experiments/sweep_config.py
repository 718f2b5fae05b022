"""The settings of a sweep as one validated object: made once, passed whole, and written into its manifest."""

from __future__ import annotations

from typing import Any, Self

from pydantic import model_validator

from .._core.errors import UsageError
from .._core.params import BITS, KEEP, check_seed
from .._core.settings import Settings
from ..centers import CENTERS, DEFAULT_CENTER
from ..checkpoint import Checkpoint
from ..methods import METHODS
from ..scoring.calibration import TOKENS
from ..scoring.tasks import EMBEDDED_TASKS
from ..store.layout import DEFAULT_STORAGE, Storage
from ..store.manifest import checkpoint_hash
from .variants import DEFAULT_BITS, curve_keeps, keeps_of

DEFAULT_METHODS: tuple[str, ...] = ("up", "svd", "resmoe-up", "resmoe-svd", "rtn", "resmoe-coded")
DEFAULT_KEEPS: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 0.75)


class SweepConfig(Settings):
    """What a sweep measures: everything that decides its tables, and nothing else.

    Parameters
    ----------
    layers
        Numbers of the layers that are compressed.
    methods, center, seed
        What is compared.
    keeps, bits
        At which kept fractions, and at how many bits a weight the methods that go by bits; those that one cannot have
        are left out. In the tables the kept fraction of so many bits is their share of 16.
    storage
        How values are stored: errors, scores and bytes are those of what is stored.
    tasks, limit
        What is scored, on how many rows; the routers' load is measured on as many rows of StoryWorld's running text.
    calibration, tokens
        Task whose running text calibrates methods and centers that use it, and how many of its tokens.

    Raises
    ------
    UsageError
        If a setting is not allowed, or no method is left to compare.

    Examples
    --------
    >>> config = SweepConfig(layers=[0], methods=["up", "rtn"], keeps=[0.25], bits=[3])
    >>> config.scored_keeps("up"), config.scored_keeps("rtn")
    ([0.25], [0.1875])
    >>> SweepConfig(layers=[0], methods=["up"], keeps=[2])
    Traceback (most recent call last):
    ...
    resmoe_lab._core.errors.UsageError: keep is 2, expected a number in (0, 1]: kept fraction of the parameters per \
expert (the paper's '75 % compression' is 0.25)
    """

    layers: tuple[int, ...]
    methods: tuple[str, ...] = DEFAULT_METHODS
    keeps: tuple[float, ...] = DEFAULT_KEEPS
    bits: tuple[float, ...] = DEFAULT_BITS
    center: str = DEFAULT_CENTER
    storage: Storage = DEFAULT_STORAGE
    tasks: tuple[str, ...] = EMBEDDED_TASKS
    limit: int | None = None
    calibration: str | None = None
    tokens: int = TOKENS
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for keep in self.keeps:
            KEEP.validate(keep)
        for value in self.bits:
            BITS.validate(value)
        check_seed(self.seed)
        CENTERS[self.center]
        if not any(self.scored_keeps(name) for name in self.methods):
            asked = f"keeps {list(self.keeps)} and bits {list(self.bits)}"
            raise UsageError(
                f"methods {list(self.methods)} at {asked}: nothing to compare, expected some that a method can have"
            )
        return self

    def scored_keeps(self, method: str) -> list[float]:
        """Return the kept fractions at which a method is scored."""
        return keeps_of(METHODS[method](), keeps=self.keeps, bits=self.bits)

    def curve_keeps(self, method: str) -> list[float]:
        """Return the kept fractions of a method's error curve."""
        return curve_keeps(METHODS[method](), keeps=self.keeps, bits=self.bits)

    def manifest_settings(self, checkpoint: Checkpoint, usage: str | None) -> dict[str, Any]:
        """Return what a folder's manifest tells of a sweep: a folder of other settings is not gone on with.

        Parameters
        ----------
        checkpoint
            The model.
        usage
            Name and hash of the routing trace that tells how often experts are used; None without one.
        """
        settings: dict[str, Any] = {"checkpoint": checkpoint.name, "checkpoint_hash": checkpoint_hash(checkpoint)}
        settings |= self.model_dump(mode="json", exclude={"bits", "calibration", "tokens"})
        if any(METHODS[name].method.by_bits for name in self.methods):
            settings |= {"bits": list(self.bits)}
        if self.calibration is not None:
            settings |= {"calibration": self.calibration, "tokens": self.tokens}
        if usage is not None:
            settings |= {"usage": usage}
        return settings
