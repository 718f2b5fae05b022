"""A coded matrix as one run of bytes that describes itself.

Little-endian, without gaps::

    "RMC1", rows, columns (uint32), blocks, streams (uint16), classes, symbols (uint8)
    where each block of columns ends (uint32), its step (float32)
    the symbols' values in steps (float16), their frequencies in each class, the classes' own (uint16)
    CRC-32 of all that, then length in bytes and CRC-32 of each stream (uint32)
    the streams: 8 states (uint32), then words (uint16)

A stream holds some of the rows, and can be decoded without the others.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..._core.errors import CheckpointError
from ..._core.threads import map_parallel
from ._layout import LANES, LOWEST, PADDING
from .quantizer import QuantizedValues
from .tables import TOTAL, decoding_table, frequencies_of, starts_of

_MAGIC = b"RMC1"
_HEAD = struct.Struct("<4sIIHHBB")
#: Weights of a stream: enough that its states are nothing beside it, few enough for several processors.
_STREAM_WEIGHTS = 1 << 19


@dataclass(frozen=True)
class CodedMatrix:
    """The checked header of a coded matrix, and its streams.

    Parameters
    ----------
    rows, columns
        Its shape.
    stops
        Where each block of columns ends.
    steps, levels
        As for :class:`~.quantizer.QuantizedValues`.
    frequencies
        (C, K) uint16.
    class_frequencies
        (C,) uint16, empty where there is one class.
    streams
        The bytes of each.
    """

    rows: int
    columns: int
    stops: tuple[int, ...]
    steps: np.ndarray
    levels: np.ndarray
    frequencies: np.ndarray
    class_frequencies: np.ndarray
    streams: tuple[np.ndarray, ...]

    @classmethod
    def read(cls, data: np.ndarray, *, shape: tuple[int, int], where: str = "a coded matrix") -> CodedMatrix:
        """Check the bytes of a coded matrix; nothing larger than they are themselves is made of them.

        Parameters
        ----------
        data
            (n,) uint8.
        shape
            (rows, columns) that it has to have.
        where
            What it is, for the message.

        Raises
        ------
        CheckpointError
            If they are not one.
        """
        reader = _Reader(np.ascontiguousarray(data, np.uint8), where)
        magic, rows, columns, blocks, streams, classes, symbols = _HEAD.unpack(reader.take(_HEAD.size).tobytes())
        if magic != _MAGIC:
            raise reader.damaged(f"it begins with {magic!r}, expected {_MAGIC!r}")
        if (rows, columns) != shape:
            raise reader.damaged(f"it has shape {(rows, columns)}, expected {shape}")
        if not blocks or not classes or symbols < 3 or symbols % 2 == 0:
            raise reader.damaged(f"{blocks} blocks, {classes} tables of {symbols} symbols")
        stops = tuple(reader.numbers(blocks, "<u4").tolist())
        steps, levels = reader.numbers(blocks, "<f4"), reader.numbers(symbols, "<f2")
        frequencies = reader.numbers(classes * symbols, "<u2").reshape(classes, symbols)
        class_frequencies = reader.numbers(classes if classes > 1 else 0, "<u2")
        reader.check_sum()
        if sorted({0, *stops}) != [0, *stops] or stops[-1] != columns:
            raise reader.damaged(f"blocks that end at {stops} of {columns} columns")
        if not (np.isfinite(steps).all() and np.isfinite(levels).all()):
            raise reader.damaged("a step or a value is not finite")
        for table in (*frequencies, *([class_frequencies] if classes > 1 else [])):
            if table.sum(dtype=np.int64) != TOTAL or int(table.max()) >= TOTAL:
                raise reader.damaged(f"frequencies that add up to {table.sum(dtype=np.int64)}, expected {TOTAL}")
        table = reader.numbers(2 * streams, "<u4").reshape(streams, 2).tolist()
        if not 1 <= streams <= max(1, rows):
            raise reader.damaged(f"{streams} streams of {rows} rows")
        bodies = tuple(reader.stream(length, checksum) for length, checksum in table)
        reader.finish()
        return cls(rows, columns, stops, steps, levels, frequencies, class_frequencies, bodies)

    def symbols(self, *, where: str = "a coded matrix") -> QuantizedValues:
        """Decode the symbols alone, exactly as they were coded.

        Raises
        ------
        CheckpointError
            If a stream is not what was written.
        """
        from ._loops import decode_symbols

        symbols = np.empty((self.rows, self.columns), np.uint8)
        _decode_streams(self, partial(decode_symbols, **_tables(self)), where, symbols=symbols)
        counts = np.bincount(symbols.reshape(-1), minlength=len(self.levels))[None]
        classes = np.zeros((self.rows, len(self.stops)), np.uint8)
        return QuantizedValues(symbols, self.stops, self.steps, self.levels, classes, counts)

    def spans(self) -> list[slice]:
        """Return which rows each stream holds."""
        return _spans(self.rows, len(self.streams))


def encode(values: QuantizedValues) -> np.ndarray:
    """Code a quantized matrix.

    Returns
    -------
    numpy.ndarray
        (n,) uint8, the same on every machine.

    Examples
    --------
    >>> from resmoe_lab.store.coder import quantize
    >>> values = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    >>> quantized = quantize(values, [64], [0.5])
    >>> data = encode(quantized)
    >>> bool((decode(data, (64, 64)) == quantized.values).all())
    True
    """
    from ._loops import encode_rows

    rows, columns = values.symbols.shape
    frequencies = np.stack([frequencies_of(counts) for counts in values.counts])
    classes = len(frequencies)
    share = np.bincount(values.classes.reshape(-1), minlength=classes)
    class_frequencies = frequencies_of(share) if classes > 1 else np.empty(0, np.uint16)
    options: dict[str, Any] = {"frequencies": frequencies.astype(np.uint32), "starts": starts_of(frequencies)}
    options |= {"class_frequencies": class_frequencies.astype(np.uint32)}
    options |= {"class_starts": starts_of(class_frequencies) if classes > 1 else np.empty(0, np.uint32)}
    stops, bodies = np.asarray(values.stops, np.int64), list[bytes]()
    for span in _spans(rows, -(-values.symbols.size // _STREAM_WEIGHTS) if rows else 1):
        symbols = values.symbols[span]
        # A symbol takes at most 12 bits, and so does the name of a class.
        words = np.empty(symbols.size + symbols.shape[0] * len(stops) + LANES, np.uint16)
        at, states = encode_rows(symbols, values.classes[span], stops, words=words, **options)
        bodies.append(states.astype("<u4").tobytes() + words[at:].astype("<u2").tobytes())
    head = _HEAD.pack(_MAGIC, rows, columns, len(stops), len(bodies), classes, frequencies.shape[1])
    head += stops.astype("<u4").tobytes() + values.steps.astype("<f4").tobytes()
    head += values.levels.astype("<f2").tobytes() + frequencies.astype("<u2").tobytes()
    head += class_frequencies.astype("<u2").tobytes()
    table = np.array([(len(body), zlib.crc32(body)) for body in bodies], "<u4").tobytes()
    return np.frombuffer(b"".join([head, struct.pack("<I", zlib.crc32(head)), table, *bodies]), np.uint8)


def decode(data: np.ndarray, shape: tuple[int, int], *, where: str = "a coded matrix") -> np.ndarray:
    """Return the (rows, columns) float32 matrix of some coded bytes.

    Raises
    ------
    CheckpointError
        If they are damaged.
    """
    coded = CodedMatrix.read(data, shape=shape, where=where)
    matrix = np.empty(shape, np.float32)
    decode_into(coded, matrix, None, where=where)
    return matrix


def decode_into(
    coded: CodedMatrix, matrix: np.ndarray, center: np.ndarray | None, *, where: str = "a coded matrix"
) -> None:
    """Fill a matrix with a center, or with zeros, and the coded matrix on top of it, in one pass.

    Parameters
    ----------
    coded
        What is decoded; its streams by several processors at once.
    matrix
        (rows, columns) float32, or uint16 with the bits of bfloat16.
    center
        (B, rows, columns / B) of the same type, its column blocks; None for zeros.
    where
        What it is, for the message.

    Raises
    ------
    CheckpointError
        If a stream is not what was written.
    """
    from ._loops import decode_bfloat16, decode_floats

    widths = {stop - start for start, stop in zip((0, *coded.stops), coded.stops, strict=False)}
    if center is None:
        center = np.broadcast_to(np.zeros(1, matrix.dtype), (1, coded.rows, coded.columns))
    elif center.shape != (len(coded.stops), coded.rows, *widths):
        # Other blocks than those of the coded matrix: side by side they are one.
        center = np.concatenate(list(center), axis=1)[None]
    if matrix.shape != (coded.rows, coded.columns) or center.size != matrix.size:
        raise ValueError(f"matrix {matrix.shape} and center {center.shape} for {(coded.rows, coded.columns)}")
    loop = decode_floats if matrix.dtype == np.float32 else decode_bfloat16
    levels = coded.steps[:, None] * coded.levels.astype(np.float32)
    _decode_streams(coded, partial(loop, levels=levels, **_tables(coded)), where, matrix=matrix, center=center)


def _tables(coded: CodedMatrix) -> dict[str, np.ndarray]:
    names = coded.class_frequencies
    return {
        "tables": np.stack([decoding_table(table) for table in coded.frequencies]),
        "class_table": decoding_table(names) if len(names) else np.empty(0, np.uint32),
    }


def _decode_streams(
    coded: CodedMatrix,
    loop: Callable[..., int],
    where: str,
    *,
    center: np.ndarray | None = None,
    **rows: np.ndarray,
) -> None:
    """Decode all streams, several at once, each into its own rows of some arrays."""
    stops = np.asarray(coded.stops, np.int64)

    def one(part: tuple[slice, np.ndarray]) -> bool:
        span, body = part
        states, words = body[: 4 * LANES].view("<u4").astype(np.uint32), body[4 * LANES :].view("<u2")
        padded = np.concatenate([words, np.zeros(PADDING, np.uint16)])
        own = {name: array[span] for name, array in rows.items()}
        if center is not None:
            own["center"] = center[:, span]
        read = loop(padded, states, stops, **own)
        return bool(read == len(words) and (states == LOWEST).all())

    if not all(map_parallel(one, zip(coded.spans(), coded.streams, strict=True))):
        raise CheckpointError(f"{where} is damaged: a stream does not end where it should; copy the file again")


def _spans(rows: int, streams: int) -> list[slice]:
    streams = max(1, min(streams, rows))
    return [slice(rows * i // streams, rows * (i + 1) // streams) for i in range(streams)]


class _Reader:
    """Takes one thing after another from some bytes, and says what is wrong with them."""

    def __init__(self, data: np.ndarray, where: str) -> None:
        self._data, self._where, self._at = data, where, 0

    def damaged(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self._where} is damaged: {reason}; copy the file again")

    def take(self, size: int) -> np.ndarray:
        if size > len(self._data) - self._at:
            raise self.damaged(f"it ends after {len(self._data)} bytes, expected {size} more at {self._at}")
        self._at += size
        return self._data[self._at - size : self._at]

    def numbers(self, count: int, dtype: str) -> np.ndarray:
        values = np.frombuffer(self.take(count * np.dtype(dtype).itemsize).tobytes(), dtype)
        return values.astype(values.dtype.newbyteorder("="))

    def check_sum(self) -> None:
        actual = zlib.crc32(self._data[: self._at].data)
        (expected,) = self.numbers(1, "<u4")
        if actual != expected:
            raise self.damaged(f"its header has checksum {actual:#x}, expected {expected:#x}")

    def stream(self, length: int, checksum: int) -> np.ndarray:
        if length < 4 * LANES or length % 2:
            raise self.damaged(f"a stream of {length} bytes")
        body = self.take(length)
        if zlib.crc32(body.data) != checksum:
            raise self.damaged("the checksum of a stream differs")
        return body

    def finish(self) -> None:
        if self._at != len(self._data):
            raise self.damaged(f"{len(self._data) - self._at} bytes too many")
