"""Declarations of numeric parameters, shared by command-line options, widgets, reports and documentation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .errors import UsageError


@dataclass(frozen=True)
class Param:
    """A numeric parameter.

    Parameters
    ----------
    name
        Its name in Python, on the command line and in widgets.
    default
        Its default value.
    low, high
        Bounds; `low` itself is allowed only if `low_included`.
    step
        The slider's step.
    doc
        One line for help texts and tooltips.
    """

    name: str
    default: float
    low: float
    high: float
    step: float
    doc: str
    low_included: bool = True

    def validate(self, value: float) -> float:
        """Return `value` after checking that it is within the bounds.

        Raises
        ------
        UsageError
            If `value` is not a finite number within the bounds.
        """
        above = value >= self.low if self.low_included else value > self.low
        if not (math.isfinite(value) and above and value <= self.high):
            bracket = "[" if self.low_included else "("
            raise UsageError(
                f"{self.name} is {value:g}, expected a number in {bracket}{self.low:g}, {self.high:g}]: {self.doc}"
            )
        return value

    def grid(self) -> list[float]:
        """Return all values of a slider, in ascending order."""
        first = 0 if self.low_included else 1
        count = round((self.high - self.low) / self.step)
        return [round(self.low + i * self.step, 10) for i in range(first, count + 1)]


#: The kept fraction of the residual's (or the method's) parameters per expert.
KEEP = Param(
    name="keep",
    default=0.25,
    low=0.0,
    high=1.0,
    step=0.05,
    doc="kept fraction of the parameters per expert (the paper's '75 % compression' is 0.25)",
    low_included=False,
)

#: Bits of a stored weight: what methods that round every weight go by, where others go by the kept fraction.
BITS = Param(
    name="bits",
    default=4.0,
    low=0.0,
    high=16.0,
    step=0.5,
    doc="bits of a weight, of methods that round weights instead of dropping them",
    low_included=False,
)


#: Seeds that every generator of random numbers takes.
_SEEDS = range(1 << 63)


def check_seed(seed: int) -> int:
    """Return the seed after checking that every generator of random numbers takes it.

    Raises
    ------
    UsageError
        If it is negative, or has more than 63 bits.
    """
    if seed not in _SEEDS:
        raise UsageError(f"seed is {seed}, expected a whole number from 0 to {_SEEDS[-1]}")
    return seed


def keep_of_bits(bits: float) -> float:
    """Return the kept fraction that so many bits of a 16 bit weight are.

    Raises
    ------
    UsageError
        If it is not a number in (0, 16].

    Examples
    --------
    >>> keep_of_bits(4)
    0.25
    """
    return BITS.validate(bits) / 16
