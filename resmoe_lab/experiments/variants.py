"""The forms of a model that experiments compare: as it is, with its centers alone, or compressed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .._core.params import KEEP, keep_of_bits
from ..methods import METHODS, Method

#: Bits a weight at which methods that go by them are compared.
DEFAULT_BITS: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 4.0)
#: Keeps of error curves, which cost nothing more than one sort or one spectrum, and bits of methods that go by those.
CURVE_KEEPS: tuple[float, ...] = tuple(KEEP.grid())
CURVE_BITS: tuple[float, ...] = (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 8)
#: Stored bits a weight that are spoken of where a single number is named, and the bits of what others are held against.
FEW_BITS, PLAIN_BITS = 2.0, 4.0
#: The variants that are no method: before any compression, and with every residual dropped.
ORIGINAL, CENTER_ONLY = "original", "center-only"


@dataclass(frozen=True)
class Variant:
    """One form of a model; made by :class:`~.runner.VariantRunner`, which knows its layers and the center.

    Parameters
    ----------
    method
        A method's name, ``"original"`` or ``"center-only"``.
    center
        The center's name, ``"none"`` where none is used.
    keep
        Kept fraction of all layers, or of each by its number.
    """

    method: str
    center: str = "none"
    keep: float | Mapping[int, float] = 1.0

    def keep_of(self, layer: int) -> float:
        """Return one layer's kept fraction."""
        return self.keep[layer] if isinstance(self.keep, Mapping) else self.keep

    @property
    def mean_keep(self) -> float:
        """The mean of the layers' kept fractions."""
        return sum(self.keep.values()) / len(self.keep) if isinstance(self.keep, Mapping) else self.keep


def keeps_of(method: Method, *, keeps: Sequence[float], bits: Sequence[float]) -> list[float]:
    """Return the kept fractions at which a method is scored: those of its bits where it goes by them."""
    if not method.by_bits:
        return list(keeps)
    return [keep_of_bits(value) for value in bits if method.takes_bits(value)]


def curve_keeps(method: Method, *, keeps: Sequence[float], bits: Sequence[float]) -> list[float]:
    """Return the kept fractions of a method's error curve, those at which it is scored among them.

    Examples
    --------
    >>> from resmoe_lab.methods import METHODS
    >>> [16 * keep for keep in curve_keeps(METHODS["rtn"](), keeps=[0.25], bits=[1.5, 7])]
    [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    """
    return sorted(set(keeps_of(method, keeps=[*CURVE_KEEPS, *keeps], bits=[*CURVE_BITS, *bits])))


def is_plain_quantizer(method: str) -> bool:
    """Whether a method does nothing but round every weight to a few bits."""
    if method not in METHODS:
        return False
    kind = METHODS[method]
    return kind.method.by_bits and not kind.uses_center and not kind.method.variable_size
