"""Two vector instructions for the compiled loops that numba has no words for.

Processors with AVX-512 spread values over the set places of a mask in one instruction; for others LLVM writes the
same out step by step, so the results are equal everywhere.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

#: Places that one mask tells of.
LANES = 16
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_BOOLS = ir.VectorType(ir.IntType(1), LANES)
_ZEROS = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)


@intrinsic
def add_expanded(typingctx, row, place, values, at, mask, factor):  # type: ignore[no-untyped-def]
    """Add ``values[at:]``, times a factor, to the places of ``row[place : place + LANES]`` that a mask has set.

    Parameters
    ----------
    row, values
        Contiguous float32 arrays; nothing beyond the set places is read or changed in value.
    place, at
        intp offsets.
    mask
        uint16, the first place in the lowest bit.
    factor
        float32.
    """
    signature = types.void(row, types.intp, values, types.intp, types.uint16, types.float32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        row, place, values, at, mask, factor = arguments
        target, source = (
            builder.gep(context.make_array(kind)(context, builder, array).data, [offset], inbounds=True)
            for kind, array, offset in ((signature.args[0], row, place), (signature.args[2], values, at))
        )
        kind = ir.FunctionType(_VECTOR, [source.type, _BOOLS, _VECTOR])
        expand = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.expandload.v{LANES}f32")
        spread = builder.call(expand, [source, builder.bitcast(mask, _BOOLS), ir.Constant(_VECTOR, [0.0] * LANES)])
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        factors = builder.insert_element(undefined, factor, ir.Constant(ir.IntType(32), 0))
        factors = builder.shuffle_vector(factors, undefined, _ZEROS)
        target = builder.bitcast(target, _VECTOR.as_pointer())
        total = builder.fadd(builder.load(target, align=4), builder.fmul(spread, factors))
        builder.store(total, target, align=4)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def count_bits(typingctx, mask):  # type: ignore[no-untyped-def]
    """How many bits of a uint16 are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint16(types.uint16), generate
