"""Compiled loops of the coder; importing this file loads the compiler.

A stream has several states of 32 bits that take turns, so that the processor works on all of them at once, and one
sequence of 16 bit words that they share. Whatever the words say, nothing outside the arrays is read or written: behind
the words stand some more, the padding, and a stream that asks for more than its own ends there.
"""

from __future__ import annotations

import numba
import numpy as np

from ._layout import LANES, LOWEST, TABLE_BITS

_SLOTS = np.uint32((1 << TABLE_BITS) - 1)
_SHIFT = np.uint32(TABLE_BITS)
_WORD = np.uint32(16)


@numba.njit(cache=True, nogil=True)
def encode_rows(symbols, classes, stops, *, frequencies, starts, class_frequencies, class_starts, words):  # type: ignore[no-untyped-def]
    """Code rows of symbols from the last to the first; return where in `words` the coded ones begin, and the states."""
    states = np.full(LANES, np.uint32(LOWEST), np.uint32)
    at = len(words)
    rows, blocks, coded_classes = symbols.shape[0], len(stops), len(class_frequencies) > 1
    for row in range(rows - 1, -1, -1):
        for block in range(blocks - 1, -1, -1):
            first = stops[block - 1] if block else 0
            kind = classes[row, block]
            frequency, start = frequencies[kind], starts[kind]
            for column in range(stops[block] - 1, first - 1, -1):
                symbol = symbols[row, column]
                at = _push(states, (column - first) % LANES, frequency[symbol], start[symbol], words, at)
            if coded_classes:
                at = _push(states, 0, class_frequencies[kind], class_starts[kind], words, at)
    return at, states


@numba.njit(inline="always")
def _push(states, lane, frequency, start, words, at):  # type: ignore[no-untyped-def]
    state = states[lane]
    full = (state >> np.uint32(32 - TABLE_BITS)) >= frequency
    # Written whether it counts or not: a jump that nobody can foresee costs more than a store.
    words[at - 1] = np.uint16(state & np.uint32(0xFFFF))
    at -= np.int64(full)
    state = np.uint32(state >> _WORD) if full else np.uint32(state)
    # Exact: with the half, the quotient of 32 bit numbers stays further from whole ones than float64 rounds.
    whole = np.uint32(np.int64((np.float64(state) + 0.5) / np.float64(frequency)))
    states[lane] = np.uint32(np.uint32(whole << _SHIFT) + np.uint32(state - np.uint32(whole * frequency)) + start)
    return at


@numba.njit(inline="always")
def _pull(states, lane, table, words, at):  # type: ignore[no-untyped-def]
    """The next symbol of a lane, and the next place in the words, which stays within the padding."""
    states[lane], following, symbol = _step(states[lane], np.uint64(at), table, words)
    return symbol, min(np.int64(following), len(words) - LANES)


@numba.njit(cache=True, nogil=True)
def decode_symbols(words, states, stops, *, tables, class_table, symbols):  # type: ignore[no-untyped-def]
    """Decode rows of symbols; return how many words were read."""
    at, buffer = 0, np.empty(stops[-1], np.uint8)
    for row in range(symbols.shape[0]):
        at = _decode_row(words, states, stops, at, tables, class_table, buffer)
        symbols[row] = buffer
    return at


@numba.njit(cache=True, nogil=True)
def decode_floats(words, states, stops, *, tables, class_table, levels, center, matrix):  # type: ignore[no-untyped-def]
    """Decode rows of float32 values on top of a center, and return how many words were read.

    The center is (B, rows, columns / B) with the blocks of the matrix, or (1, rows, columns).
    """
    at, buffer, by_blocks = 0, np.empty(stops[-1], np.uint8), len(center) == len(stops)
    for row in range(matrix.shape[0]):
        at = _decode_row(words, states, stops, at, tables, class_table, buffer)
        first = 0
        for block in range(len(stops)):
            stop = stops[block]
            level, values, codes = levels[block], matrix[row, first:stop], buffer[first:stop]
            base = center[block, row] if by_blocks else center[0, row, first:stop]
            for column in range(len(values)):
                values[column] = base[column] + level[codes[column]]
            first = stop
    return at


@numba.njit(cache=True, nogil=True)
def decode_bfloat16(words, states, stops, *, tables, class_table, levels, center, matrix):  # type: ignore[no-untyped-def]
    """:func:`decode_floats` for bfloat16: center and matrix are the 16 bits of each value; rounded to nearest even."""
    at, buffer, by_blocks = 0, np.empty(stops[-1], np.uint8), len(center) == len(stops)
    sums = np.empty(stops[-1], np.float32)
    for row in range(matrix.shape[0]):
        at = _decode_row(words, states, stops, at, tables, class_table, buffer)
        first = 0
        for block in range(len(stops)):
            stop = stops[block]
            base = center[block, row] if by_blocks else center[0, row, first:stop]
            _widen(base, sums[first:stop].view(np.uint32))
            _add_levels(sums[first:stop], levels[block], buffer[first:stop])
            first = stop
        _narrow(sums.view(np.uint32), matrix[row])
    return at


# Each by itself, so that the compiler sees that it can do many values at once.
@numba.njit(cache=True, nogil=True, inline="never")
def _widen(halves, bits):  # type: ignore[no-untyped-def]
    for place in range(len(bits)):
        bits[place] = np.uint32(np.uint32(halves[place]) << _WORD)


@numba.njit(cache=True, nogil=True, inline="never")
def _add_levels(sums, level, codes):  # type: ignore[no-untyped-def]
    for place in range(len(sums)):
        sums[place] += level[codes[place]]


@numba.njit(cache=True, nogil=True, inline="never")
def _narrow(bits, halves):  # type: ignore[no-untyped-def]
    for place in range(len(bits)):
        value = bits[place]
        even = np.uint32(np.uint32(value >> _WORD) & np.uint32(1))
        rounded = np.uint32(value + np.uint32(np.uint32(0x7FFF) + even))
        halves[place] = np.uint16(rounded >> _WORD)


@numba.njit(cache=True, nogil=True)
def _decode_row(words, states, stops, at, tables, class_table, buffer):  # type: ignore[no-untyped-def]
    first = 0
    for block in range(len(stops)):
        kind = np.uint32(0)
        if len(class_table):
            kind, at = _pull(states, 0, class_table, words, at)
        at = _decode_block(words, states, at, tables[kind], buffer[first : stops[block]])
        first = stops[block]
    return at


@numba.njit(inline="always")
def _step(state, at, table, words):  # type: ignore[no-untyped-def]
    entry = table[state & _SLOTS]
    state = np.uint32((entry & _SLOTS) * (state >> _SHIFT) + ((entry >> _SHIFT) & _SLOTS))
    short = state < np.uint32(LOWEST)
    filled = np.uint32(np.uint32(state << _WORD) | np.uint32(words[at]))
    return (filled if short else state), at + np.uint64(short), np.uint8(entry >> np.uint32(24))


@numba.njit(cache=True, nogil=True)
def _decode_block(words, states, at, table, buffer):  # type: ignore[no-untyped-def]
    at, full = np.uint64(at), len(buffer) - len(buffer) % LANES
    last = np.uint64(len(words) - LANES)
    # The states by name: as an array they would be written to memory after every symbol.
    s0 = states[0]
    s1 = states[1]
    s2 = states[2]
    s3 = states[3]
    s4 = states[4]
    s5 = states[5]
    s6 = states[6]
    s7 = states[7]
    for column in range(0, full, LANES):
        s0, at, symbol = _step(s0, at, table, words)
        buffer[column + 0] = symbol
        s1, at, symbol = _step(s1, at, table, words)
        buffer[column + 1] = symbol
        s2, at, symbol = _step(s2, at, table, words)
        buffer[column + 2] = symbol
        s3, at, symbol = _step(s3, at, table, words)
        buffer[column + 3] = symbol
        s4, at, symbol = _step(s4, at, table, words)
        buffer[column + 4] = symbol
        s5, at, symbol = _step(s5, at, table, words)
        buffer[column + 5] = symbol
        s6, at, symbol = _step(s6, at, table, words)
        buffer[column + 6] = symbol
        s7, at, symbol = _step(s7, at, table, words)
        buffer[column + 7] = symbol
        at = min(at, last)
    states[0] = s0
    states[1] = s1
    states[2] = s2
    states[3] = s3
    states[4] = s4
    states[5] = s5
    states[6] = s6
    states[7] = s7
    place = np.int64(at)
    for column in range(full, len(buffer)):
        symbol, place = _pull(states, column - full, table, words, place)
        buffer[column] = np.uint8(symbol)
    return place


@numba.njit(cache=True, nogil=True)
def round_values(values, stops, inverse_steps, *, classes, thresholds, symbols, counts, sums):  # type: ignore[no-untyped-def]
    """Round values to symbols, and add up how many of each there are and their magnitudes, class by class.

    `thresholds` (C, k + 1): magnitude, in steps, from which on each symbol is chosen, zero for the first.
    """
    largest = np.int64(thresholds.shape[1] - 1)
    for row in range(values.shape[0]):
        first = 0
        for block in range(len(stops)):
            kind, inverse = classes[row, block], inverse_steps[block]
            limits, count, total = thresholds[kind], counts[kind], sums[kind]
            for column in range(first, stops[block]):
                scaled = values[row, column] * inverse
                size = abs(scaled)
                # No threshold is more than a step and a half above its symbol's lower neighbour.
                level = min(np.int64(size + np.float32(1)), largest)
                level -= np.int64(size < limits[level])
                level -= np.int64(size < limits[level])
                symbol = largest + level if scaled >= 0 else largest - level
                symbols[row, column] = symbol
                count[symbol] += 1
                total[symbol] += scaled
            first = stops[block]
