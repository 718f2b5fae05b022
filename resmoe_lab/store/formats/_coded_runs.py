"""The bytes of one coded expert: of its symbols, of what pruning has kept, or of two factors.

Pruned matrices are rounded to multiples of the smallest magnitude that is kept: what is dropped is then about what the
quantizer would have rounded to zero. Factors are rounded so that a singular direction loses at most a tenth of the
energy of the smallest that is kept; those of the right factor, which are of unit length, in steps as much finer as
their singular value is larger.
"""

from __future__ import annotations

import struct

import numpy as np
import torch

from ..._core.errors import CheckpointError, UsageError
from ..coder import CodedMatrix, QuantizedValues, decode, decode_into, encode, quantize
from ..coder.quantizer import NOT_FINITE
from ..matrices import CompressedMatrix, LowRankMatrix, SparseMatrix
from ..quantized_matrices import SymbolMatrix

_FACTORS = struct.Struct("<4sI")
_MAGIC = b"RMF1"
#: The smallest magnitudes that are kept may be far below the rest, where importance counts too.
_LEAST_QUANTILE = 0.02
#: Energy that the rounding of a singular direction may take, of that of the smallest one kept.
_FACTOR_LOSS = 0.1


def code_matrix(matrix: CompressedMatrix) -> np.ndarray:
    """Return the (n,) uint8 bytes of one expert's compressed matrix."""
    if isinstance(matrix, SymbolMatrix):
        return encode(matrix.quantized)
    if isinstance(matrix, SparseMatrix):
        values = matrix.restore().float().cpu().numpy()
        return encode(quantize(values, [values.shape[1]], [_sparse_step(matrix)], bit_price=0.0))
    assert isinstance(matrix, LowRankMatrix)
    return _code_factors(matrix)


def restore_run(run: np.ndarray, matrix: np.ndarray, center: np.ndarray | None, *, where: str) -> None:
    """Fill a matrix as :func:`~resmoe_lab.store.coder.decode_into` does, from the bytes of an expert.

    Raises
    ------
    CheckpointError
        If they are damaged.
    """
    if not is_factored(run):
        rows, columns = matrix.shape
        decode_into(CodedMatrix.read(run, shape=(rows, columns), where=where), matrix, center, where=where)
        return
    left, right = _factors(run, matrix.shape[0], matrix.shape[1], where)
    product = torch.from_numpy(left) @ torch.from_numpy(right)
    target = torch.from_numpy(matrix)
    target = target.view(torch.bfloat16) if matrix.dtype == np.uint16 else target
    if center is not None:
        base = torch.from_numpy(np.ascontiguousarray(center))
        base = base.view(torch.bfloat16).float() if matrix.dtype == np.uint16 else base
        product += base.transpose(0, 1).reshape(matrix.shape)
    target.copy_(product)


def shard_run(run: np.ndarray, rows: slice, *, neurons: int, width: int, where: str) -> np.ndarray:
    """Return the bytes of some rows of an expert, their symbols unchanged."""
    if not is_factored(run):
        return encode(_symbols(run, (neurons, width), where).take(rows))
    left, right = _split(run, where)
    if not len(left):
        return run
    rank = _rank(left, where)
    return _joined(encode(_symbols(left, (neurons, rank), where).take(rows)), right)


def is_factored(run: np.ndarray) -> bool:
    """Whether the bytes are those of two factors."""
    return run[:4].tobytes() == _MAGIC


def forecast_bytes(kind: type[CompressedMatrix], count: int, *, rows: int, columns: int) -> int:
    """Return about how many bytes an expert will take: only coding tells."""
    if kind is LowRankMatrix:
        return 200 + count * (rows + columns) * 7 // 8
    share = count / (rows * columns)
    mask = -sum(part * np.log2(part) for part in (share, 1 - share) if part > 0)
    return 200 + int(rows * columns * (mask + 4.0 * share) / 8)


def _sparse_step(matrix: SparseMatrix) -> float:
    kept = matrix.values.float().abs()
    kept = kept[kept > 0]
    if not torch.isfinite(kept).all():
        raise UsageError(NOT_FINITE)
    if not len(kept):
        return 1.0
    place = max(1, int(_LEAST_QUANTILE * len(kept)))
    return max(float(kept.kthvalue(place).values), float(kept.max()) / 127)


def _code_factors(matrix: LowRankMatrix) -> np.ndarray:
    left, right = matrix.left.float().cpu(), matrix.right.float().cpu()
    rank = len(right)
    if not rank:
        return _joined(np.empty(0, np.uint8), np.empty(0, np.uint8))
    # The left factor carries the singular values; whitened factors have other lengths on both sides.
    lengths = (left.norm(dim=0) * right.norm(dim=1)).clamp(min=1e-30)
    scale = right.norm(dim=1).clamp(min=1e-30)
    smallest = float(lengths.min())
    step = (12 * _FACTOR_LOSS * smallest**2 / (left.shape[0] + right.shape[1])) ** 0.5
    left = left * scale
    unit = (right / scale[:, None]).T.contiguous()
    stops = list(range(1, rank + 1))
    fine = [max(step / float(length), float(unit[:, j].abs().max()) / 127) for j, length in enumerate(lengths)]
    coarse = [max(step, float(left[:, j].abs().max()) / 127) or 1.0 for j in range(rank)]
    parts = [(left, coarse), (unit, [value or 1.0 for value in fine])]
    return _joined(*(encode(quantize(values.numpy(), stops, steps, bit_price=0.0)) for values, steps in parts))


def _joined(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    head = np.frombuffer(_FACTORS.pack(_MAGIC, len(left)), np.uint8)
    return np.concatenate([head, left, right])


def _split(run: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    if len(run) < _FACTORS.size:
        raise CheckpointError(f"{where} is damaged: it ends after {len(run)} bytes; copy the file again")
    _, size = _FACTORS.unpack(run[: _FACTORS.size].tobytes())
    body = run[_FACTORS.size :]
    if size > len(body):
        raise CheckpointError(f"{where} is damaged: a factor of {size} bytes in {len(body)}; copy the file again")
    return body[:size], body[size:]


def _rank(left: np.ndarray, where: str) -> int:
    """The rank, from the header of the left factor, which is checked when it is decoded."""
    if len(left) < 12:
        raise CheckpointError(f"{where} is damaged: a factor ends after {len(left)} bytes; copy the file again")
    return int.from_bytes(left[8:12].tobytes(), "little")


def _factors(run: np.ndarray, neurons: int, width: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    left, right = _split(run, where)
    if not len(left) and not len(right):
        return np.zeros((neurons, 0), np.float32), np.zeros((0, width), np.float32)
    rank = _rank(left, where)
    if rank > min(neurons, width):
        raise CheckpointError(f"{where} is damaged: rank {rank} of {neurons} x {width}; copy the file again")
    unit = decode(right, (width, rank), where=where)
    return decode(left, (neurons, rank), where=where), np.ascontiguousarray(unit.T)


def _symbols(run: np.ndarray, shape: tuple[int, int], where: str) -> QuantizedValues:
    return CodedMatrix.read(run, shape=shape, where=where).symbols(where=where)
