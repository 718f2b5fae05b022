"""Matrices of which every weight is rounded: what the methods that go by bits hand to a stored format."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .coder import QuantizedValues
from .encodings import Encoded
from .groups import from_codes
from .matrices import CompressedMatrix


@dataclass(frozen=True)
class QuantizedBlock:
    """One weight matrix in small whole numbers, as it multiplies: rows are its outputs, columns its inputs.

    Parameters
    ----------
    codes
        (outputs, inputs) uint8.
    scale, zero
        (outputs, G) floats: a value is ``(code - zero) * scale`` of its group.
    group
        Inputs that share both; the last group may be shorter.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor
    group: int

    def restore(self) -> torch.Tensor:
        """Return the (outputs, inputs) values."""
        return from_codes(self.codes, self.scale, self.zero, group=self.group)


@dataclass(frozen=True)
class QuantizedMatrix(CompressedMatrix):
    """A design matrix of which every weight is rounded.

    Groups run along the inputs of each weight matrix, as every quantizer of linear layers has them: along a row for W1
    and W3, along the neurons for W2.

    Parameters
    ----------
    parts
        The weight matrices, in the order of the design matrix's columns; the last is W2 itself, (p, p_I).
    bits
        Of a code.
    """

    parts: tuple[QuantizedBlock, ...]
    bits: int

    @property
    def shape(self) -> tuple[int, int]:
        """(p_I, D)."""
        *entering, leaving = (part.codes.shape for part in self.parts)
        return leaving[1], sum(shape[1] for shape in entering) + leaving[0]

    @property
    def count(self) -> int:
        """Bits of a code."""
        return self.bits

    def restore(self) -> torch.Tensor:
        """Return the (p_I, D) matrix of the values, W2 transposed."""
        *entering, leaving = (part.restore() for part in self.parts)
        return torch.cat([*entering, leaving.T], dim=1)


@dataclass(frozen=True)
class MicroscaledMatrix(CompressedMatrix):
    """A design matrix of which every weight is a float of four bits.

    Parameters
    ----------
    parts
        The weight matrices as they are encoded, as :class:`QuantizedMatrix` has them.
    factors
        () float32 that each whole matrix is scaled by.
    """

    parts: tuple[Encoded, ...]
    factors: tuple[torch.Tensor, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(p_I, D)."""
        *entering, leaving = self.parts
        return leaving.columns or 0, sum(part.columns or 0 for part in entering) + len(leaving.data)

    @property
    def count(self) -> int:
        """Bits of a code."""
        return self.parts[0].encoding.bits

    def restore(self) -> torch.Tensor:
        """Return the (p_I, D) matrix of the values, W2 transposed."""
        values = [part.decode(torch.float32) * factor for part, factor in zip(self.parts, self.factors, strict=True)]
        return torch.cat([*values[:-1], values[-1].T], dim=1)


@dataclass(frozen=True)
class SymbolMatrix(CompressedMatrix):
    """Every entry as a symbol of a quantizer, to be entropy-coded.

    Parameters
    ----------
    quantized
        Symbols, and what they stand for.
    """

    quantized: QuantizedValues

    @property
    def shape(self) -> tuple[int, int]:
        """(p_I, D)."""
        rows, columns = self.quantized.symbols.shape
        return rows, columns

    @property
    def count(self) -> int:
        """Bytes at most, one a symbol; coding tells how many."""
        return self.quantized.symbols.size

    def restore(self) -> torch.Tensor:
        """Return the (p_I, D) float32 values that the symbols stand for."""
        return torch.from_numpy(self.quantized.values)
