"""Compiled unpacking of four-bit codes into bfloat16; importing this file loads the compiler.

Processors with AVX-512 look up thirty-two codes in one instruction, which numba has no word for; on others a loop does
the same arithmetic, so the results are equal everywhere.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

#: Codes that one instruction looks up.
LANES = 32
_HALF = LANES // 2
_BYTES, _WORDS = ir.VectorType(ir.IntType(8), _HALF), ir.VectorType(ir.IntType(16), _HALF)
_TABLE, _FLOATS = ir.VectorType(ir.IntType(16), LANES), ir.VectorType(ir.FloatType(), _HALF)
_INTS = ir.VectorType(ir.IntType(32), _HALF)
_CAN_LOOK_UP = bool(binding.get_host_cpu_features().get("avx512bw"))


def _all(kind: Any, value: float) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _spread(builder: Any, value: Any) -> Any:
    """A vector of one float32 in every place."""
    undefined = ir.Constant(_FLOATS, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, _all(_INTS, 0))


def _table(builder: Any, scale: Any, zero: Any) -> Any:
    """The bfloat16 values of the sixteen codes, rounded to nearest even, twice."""
    codes = ir.Constant(_FLOATS, [float(code) for code in range(_HALF)])
    values = builder.fmul(builder.fsub(codes, _spread(builder, zero)), _spread(builder, scale))
    bits = builder.bitcast(values, _INTS)
    odd = builder.and_(builder.lshr(bits, _all(_INTS, 16)), _all(_INTS, 1))
    rounded = builder.add(builder.add(bits, _all(_INTS, 0x7FFF)), odd)
    words = builder.trunc(builder.lshr(rounded, _all(_INTS, 16)), _WORDS)
    twice = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [*range(_HALF), *range(_HALF)])
    return builder.shuffle_vector(words, words, twice)


@intrinsic
def look_up_group(typingctx, row, place, packed, at, scale, zero, count):  # type: ignore[no-untyped-def]
    """Write the values of ``count`` packed codes of one group to ``row[place:]``.

    Parameters
    ----------
    row, packed
        Contiguous uint16 (bfloat16 by its bits) and uint8 arrays.
    place, at, count
        intp offsets into both, and a multiple of :data:`LANES`.
    scale, zero
        float32 of the group.
    """
    signature = types.void(row, types.intp, packed, types.intp, types.float32, types.float32, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        row, place, packed, at, scale, zero, count = arguments
        target, source = (
            builder.gep(context.make_array(kind)(context, builder, array).data, [offset], inbounds=True)
            for kind, array, offset in ((signature.args[0], row, place), (signature.args[2], packed, at))
        )
        table = _table(builder, scale, zero)
        kind = ir.FunctionType(_TABLE, [_TABLE, _TABLE])
        permute = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.permvar.hi.512")
        pairs = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [i // 2 + _HALF * (i % 2) for i in range(LANES)])
        units = builder.udiv(count, ir.Constant(count.type, LANES))
        with cgutils.for_range(builder, units) as loop:
            start = builder.mul(loop.index, ir.Constant(count.type, _HALF))
            pointer = builder.bitcast(builder.gep(source, [start], inbounds=True), _BYTES.as_pointer())
            words = builder.zext(builder.load(pointer, align=1), _WORDS)
            low, high = builder.and_(words, _all(_WORDS, 15)), builder.lshr(words, _all(_WORDS, 4))
            values = builder.call(permute, [table, builder.shuffle_vector(low, high, pairs)])
            end = builder.gep(target, [builder.mul(start, ir.Constant(count.type, 2))], inbounds=True)
            builder.store(values, builder.bitcast(end, _TABLE.as_pointer()), align=2)
        return context.get_dummy_value()

    return signature, generate


@numba.njit(parallel=True, cache=True, nogil=True)
def _look_up(packed, scale, zero, out, group):  # type: ignore[no-untyped-def]
    for row in numba.prange(packed.shape[0]):
        for number in range(scale.shape[1]):
            look_up_group(
                out[row], number * group, packed[row], number * group // 2, scale[row, number], zero[row, number], group
            )


@numba.njit(parallel=True, cache=True, nogil=True)
def _compute(packed, scale, zero, out, group):  # type: ignore[no-untyped-def]
    for row in numba.prange(packed.shape[0]):
        values = np.empty(16, np.float32)
        for number in range(scale.shape[1]):
            for code in range(16):
                values[code] = (np.float32(code) - zero[row, number]) * scale[row, number]
            bits = values.view(np.uint32)
            for place in range(number * group // 2, (number + 1) * group // 2):
                for half in range(2):
                    value = bits[packed[row, place] >> np.uint8(4) if half else packed[row, place] & np.uint8(15)]
                    odd = (value >> np.uint32(16)) & np.uint32(1)
                    out[row, 2 * place + half] = np.uint16((value + np.uint32(0x7FFF) + odd) >> np.uint32(16))


def unpack(packed: np.ndarray, scale: np.ndarray, zero: np.ndarray, out: np.ndarray, *, group: int) -> None:
    """Fill the bits of a bfloat16 matrix with the values of packed codes.

    Parameters
    ----------
    packed
        (rows, columns / 2) uint8, the first code in the lower half of a byte.
    scale, zero
        (rows, columns / group) float32.
    out
        (rows, columns) uint16.
    group
        A multiple of :data:`LANES`.
    """
    (_look_up if _CAN_LOOK_UP else _compute)(packed, scale, zero, out, group)
