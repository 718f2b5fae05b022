"""The shortest augmenting path algorithm for assignments, mostly on short lists; importing this loads the compiler.

Jonker and Volgenant's algorithm (Computing 38, 1987) scans a whole row of the costs at every step. Nearly all of its
steps are those of the augmenting row reduction, which look only for the two least reduced costs of a row. Each row has
a list of its least ones and a bound below which none of the others is. As prices of columns only ever fall, reduced
costs only ever grow: the bound holds until the end, and a row is scanned again only when its second least listed
reduced cost has grown beyond it. The shortest paths that remain, from a dozen rows or so, take whole rows, in vector
instructions: distances are not negative, so that they stand in the order of their bits, and the way back is found from
the distances themselves.

All sums are in float64, whatever the costs are.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

#: Columns in the list of a row.
LIST_SIZE = 128
#: Rounds of augmenting row reduction, and the steps after which a round displaces no further rows, per row.
_ROUNDS, _STEPS = 2, 50
#: With more free columns than this, nearest ones are searched among them only where distances are equal.
_FEW = 16
_INFINITY = np.inf


def shortest_augmenting_paths(
    cost: NDArray[np.float32] | NDArray[np.float64],
    potential: NDArray[np.float64] | None = None,
    matched: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Solve an assignment problem, or what has changed of one.

    Parameters
    ----------
    cost
        (n, n) in row-major order, n at least 1, finite. It is not changed.
    potential
        (n,) potentials of the columns to start from (default: the columns' minima).
    matched
        (n,) columns that rows keep unless a path goes through them, -1 for rows that are matched anew (default: all).
        No two are the same, and each is its row's least cost less `potential`, as an earlier solution of these rows
        leaves them.

    Returns
    -------
    columns
        (n,) int64: the column of every row.
    potential
        (n,) of the columns, with which the row potentials prove the assignment optimal up to rounding in float64.
    """
    prices = cost.min(0).astype(np.float64) if potential is None else potential.astype(np.float64)
    column_of = np.full(len(cost), -1) if matched is None else matched.astype(np.int64)
    _solve(cost, prices, min(LIST_SIZE, len(cost)), column_of)
    return column_of, prices


@numba.njit(cache=True, nogil=True)
def _sink(keys, columns, costs, place, count):  # type: ignore[no-untyped-def]
    """Restore the order of a heap, largest key first, below a place."""
    key, column, value = keys[place], columns[place], costs[place]
    while True:
        child = 2 * place + 1
        if child >= count:
            break
        if child + 1 < count and keys[child + 1] > keys[child]:
            child += 1
        if keys[child] <= key:
            break
        keys[place], columns[place], costs[place] = keys[child], columns[child], costs[child]
        place = child
    keys[place], columns[place], costs[place] = key, column, value


@numba.njit(cache=True, nogil=True)
def _sampled_limit(reduced, listed):  # type: ignore[no-untyped-def]
    """Return the third least of a sample of a row: about half of a list is below it."""
    least = second = third = _INFINITY
    for column in range(0, len(reduced), max(1, listed // 6)):
        value = reduced[column]
        if value < third:
            third = value
            if third < second:
                second, third = third, second
                if second < least:
                    least, second = second, least
    return third


@numba.njit(cache=True, nogil=True)
def _list_below(limit, row, reduced, first, keys, columns, costs):  # type: ignore[no-untyped-def]
    """List what is below a limit, or the least of it if it is more than a list holds; return how much, and a bound."""
    size, listed, count = len(row), len(keys), 0
    for place in range(size):
        column = place + first
        column = column if column < size else column - size
        if reduced[column] < limit:
            at = count if count < listed else 0
            keys[at], columns[at], costs[at] = reduced[column], column, row[column]
            count = min(count + 1, listed)
            if count == listed:
                if at:
                    for start in range(listed // 2 - 1, -1, -1):
                        _sink(keys, columns, costs, start, listed)
                else:
                    _sink(keys, columns, costs, 0, listed)
                limit = keys[0]
    return count, limit


@numba.njit(cache=True, nogil=True)
def _list_row(row, prices, first, reduced, keys, columns, costs):  # type: ignore[no-untyped-def]
    """List the least reduced costs of a row; return how many, and a bound of all others.

    Of equal ones, those from column `first` on are listed: rows with the same costs should not ask for the same column.
    """
    size, listed = len(row), len(keys)
    for column in range(size):
        reduced[column] = row[column] - prices[column]
    if listed == size:
        columns[:], costs[:] = np.arange(size), row
        return size, _INFINITY
    count, limit = _list_below(_sampled_limit(reduced, listed), row, reduced, 0, keys, columns, costs)
    if count < 2:
        count, limit = _list_below(_INFINITY, row, reduced, first, keys, columns, costs)
    return count, limit


@numba.njit(cache=True, nogil=True)
def _two_least(columns, costs, prices):  # type: ignore[no-untyped-def]
    """Return the two least reduced costs of a list, and their columns (-1: there is no second)."""
    least = second = _INFINITY
    at = at_second = -1
    for place in range(len(columns)):
        reduced = costs[place] - prices[columns[place]]
        if reduced < least:
            second, at_second = least, at
            least, at = reduced, columns[place]
        elif reduced < second:
            second, at_second = reduced, columns[place]
    return least, second, at, at_second


@numba.njit(cache=True, nogil=True)
def _solve(cost, prices, listed, column_of):  # type: ignore[no-untyped-def]
    """Find the column of every row that has none; `prices` become the column potentials."""
    size = len(cost)
    columns, costs = np.empty((size, listed), np.int32), np.empty((size, listed), cost.dtype)
    # Rows that keep their columns are listed when they are displaced: until then, nothing is above their bound.
    counts, bounds = np.zeros(size, np.int64), np.full(size, -_INFINITY)
    keys, reduced = np.empty(listed), np.empty(size)
    row_of = np.full(size, -1)
    free, count = np.empty(size, np.int64), 0
    for i in range(size):
        if column_of[i] >= 0:
            row_of[column_of[i]] = i
    for i in range(size):
        if column_of[i] >= 0:
            continue
        counts[i], bounds[i] = _list_row(cost[i], prices, i, reduced, keys, columns[i], costs[i])
        at = _two_least(columns[i, : counts[i]], costs[i], prices)[2]
        if row_of[at] < 0:
            row_of[at], column_of[i] = i, at
        else:
            free[count] = i
            count += 1
    for _ in range(_ROUNDS):
        todo, count, done, steps = count, 0, 0, 0
        while done < todo:
            i = free[done]
            done += 1
            steps += 1
            least, second, at, at_second = _two_least(columns[i, : counts[i]], costs[i], prices)
            if second > bounds[i]:
                counts[i], bounds[i] = _list_row(cost[i], prices, i, reduced, keys, columns[i], costs[i])
                least, second, at, at_second = _two_least(columns[i, : counts[i]], costs[i], prices)
            if at_second < 0:  # there is one column only
                second = least
            price = prices[at]
            if least < second:
                prices[at] = price - (second - least)
            elif row_of[at] >= 0 and at_second >= 0:
                at = at_second
            displaced = row_of[at]
            row_of[at], column_of[i] = i, at
            if displaced >= 0:
                column_of[displaced] = -1
                if prices[at] < price and steps < _STEPS * size:
                    done -= 1
                    free[done] = displaced
                else:
                    free[count] = displaced
                    count += 1
    _augment(cost, prices, row_of, column_of, free[:count])


@numba.njit(cache=True, nogil=True)
def _relax(row, prices, shift, distances):  # type: ignore[no-untyped-def]
    """Shorten distances over one row, and return the least."""
    bits = distances.view(np.int64)
    for column in range(len(row)):
        distance = (row[column] - prices[column]) + shift
        distance = distance if distance > 0.0 else 0.0  # below zero by rounding, the order of bits would be another
        distances[column] = distance if distance < distances[column] else distances[column]
    least = np.int64(0x7FFFFFFFFFFFFFFF)
    for column in range(len(bits)):  # the compiler makes vector instructions of minima of integers only
        least = min(least, bits[column])
    return np.int64(least)


@numba.njit(cache=True, nogil=True)
def _augment(cost, prices, row_of, column_of, free):  # type: ignore[no-untyped-def]
    """Match every free row along a shortest path (Dijkstra's algorithm on reduced costs)."""
    size = len(cost)
    open_columns, opened = np.empty(size, np.int64), 0
    for j in range(size):
        if row_of[j] < 0:
            open_columns[opened] = j
            opened += 1
    distances = np.empty(size)
    bits = distances.view(np.int64)
    # The rows of the tree and their offsets; the columns that lead to them, their distances and old prices.
    rows, shifts = np.empty(size + 1, np.int64), np.empty(size + 1)
    reached, lengths, old_prices = np.empty(size, np.int64), np.empty(size), np.empty(size)
    for place in range(len(free)):
        i, depth, sink = free[place], 0, -1
        shift = _INFINITY
        for j in range(size):
            shift = min(shift, cost[i, j] - prices[j])
        shift = -shift
        distances[:] = _INFINITY
        while True:
            rows[depth], shifts[depth] = i, shift
            least = _relax(cost[i], prices, shift, distances)
            j = 0
            while bits[j] != least:
                j += 1
            length = distances[j]
            if opened <= _FEW or (depth > 0 and length == lengths[depth - 1]):
                for k in range(opened):
                    if distances[open_columns[k]] <= length:
                        j = open_columns[k]
                        break
            if row_of[j] < 0:
                sink = j
                break
            i = row_of[j]
            shift = length - (cost[i, j] - prices[j])
            reached[depth], lengths[depth], old_prices[depth] = j, length, prices[j]
            # No row shortens the distance of a column with this price, and it is never the nearest again.
            distances[j], prices[j] = _INFINITY, -_INFINITY
            depth += 1
        for k in range(opened):
            if open_columns[k] == sink:
                open_columns[k] = open_columns[opened - 1]
        opened -= 1
        j, price, before = sink, prices[sink], depth + 1
        while before > 0:
            best, nearest = _INFINITY, 0
            for k in range(before):
                distance = (cost[rows[k], j] - price) + shifts[k]
                if distance < best:
                    best, nearest = distance, k
            row_of[j], column_of[rows[nearest]] = rows[nearest], j
            before = nearest
            if before > 0:
                j, price = reached[before - 1], old_prices[before - 1]
        for k in range(depth):
            prices[reached[k]] = old_prices[k] + (lengths[k] - length)


@numba.njit(cache=True, nogil=True)
def row_minima(cost, potential):  # type: ignore[no-untyped-def]
    """Return ``min_j cost[i, j] - potential[j]``, (n,) float64."""
    size = cost.shape[1]
    minima, reduced = np.empty(len(cost)), np.empty(size)
    bits = reduced.view(np.int64)
    for i in range(len(cost)):
        row = cost[i]
        for column in range(size):
            reduced[column] = row[column] - potential[column]
        least = np.int64(0x7FFFFFFFFFFFFFFF)
        for column in range(size):  # negative numbers stand in reverse order of their bits
            least = min(least, bits[column] ^ ((bits[column] >> 63) & 0x7FFFFFFFFFFFFFFF))
        bits[0] = least ^ ((least >> 63) & 0x7FFFFFFFFFFFFFFF)
        minima[i] = reduced[0]
    return minima
