"""Damage to files, drawn by hypothesis, and what may become of it: one line of ours, or a result, in little memory."""

from __future__ import annotations

import copy
import math
import tracemalloc
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from resmoe_lab._core.errors import ResmoeError

#: What reading a file may take: so many times its size, and what any code takes.
TIMES, SLACK = 10, 1 << 22
#: Values of all types that JSON has, and some that are no value of theirs.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**63, 2**70, 0.5, -0.0, 1e308, math.inf, math.nan),
    *("", "x", "0", "\0", "../x", "/", ".", "\ud800", "é" * 300, "F32", "resmoe", "int8", "none"),
    *([], [[]], [0], [1, 2, 3], ["x"], [None], {}, {"x": 0}, {"": {}}, [{"x": []}]),
)


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """Draw what has become of some bytes: changed, cut short, cut out, repeated, or followed by others."""
    places = st.integers(0, len(content))

    def change(draw: tuple[str, int, int, bytes]) -> bytes:
        kind, first, second, others = draw
        start, stop = sorted((first, second))
        match kind:
            case "change":
                return content[:start] + others + content[start + len(others) :]
            case "insert":
                return content[:start] + others + content[start:]
            case "cut":
                return content[:start]
            case "remove":
                return content[:start] + content[stop:]
            case _:
                return content[:stop] + content[start:stop] + content[stop:]

    kinds = st.sampled_from(("change", "change", "insert", "cut", "remove", "repeat"))
    return st.tuples(kinds, places, places, st.binary(min_size=1, max_size=8)).map(change)


def damaged_json(content: Any) -> st.SearchStrategy[Any]:
    """Draw a JSON value in which one or two values are others, of any type, or missing."""
    paths = _paths(content, ())

    def change(draws: list[tuple[tuple[Any, ...], Any, bool]]) -> Any:
        changed = copy.deepcopy(content)
        for path, value, removed in draws:
            changed = _changed(changed, path, copy.deepcopy(value), removed=removed)
        return changed

    draw = st.tuples(st.sampled_from(paths), st.sampled_from(ODD), st.booleans())
    return st.lists(draw, min_size=1, max_size=2).map(change)


def _paths(content: Any, path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path, *(below for key, value in items for below in _paths(value, (*path, key)))]


def _changed(content: Any, path: tuple[Any, ...], value: Any, *, removed: bool) -> Any:
    """The content with another value at a path; as it is where an earlier change has taken the path away."""
    if not path:
        return value
    place = content
    for key in path[:-1]:
        if not _has(place, key):
            return content
        place = place[key]
    if _has(place, path[-1]):
        if removed:
            del place[path[-1]]
        else:
            place[path[-1]] = value
    return content


def _has(place: Any, key: Any) -> bool:
    return (isinstance(place, dict) and key in place) or (isinstance(place, list) and key in range(len(place)))


def reads_or_refuses(read: Callable[[], Any], *, size: int) -> bool:
    """Assert that reading a file of so many bytes gives something, or an error of ours in one line, in little memory.

    Returns
    -------
    bool
        Whether it was read.
    """
    said = None
    tracemalloc.start()
    try:
        read()
    except ResmoeError as error:
        said = str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert said is None or len(said.splitlines()) == 1, said
    assert peak <= TIMES * size + SLACK, f"{peak} bytes for a file of {size}"
    return said is None
