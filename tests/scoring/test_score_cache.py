"""The score cache: what was written comes back, and damaged files are no results."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from resmoe_lab.scoring import score_cache
from resmoe_lab.scoring.likelihood import Likelihood
from resmoe_lab.scoring.outcome import Outcome, Score
from resmoe_lab.scoring.score_cache import PartialResults, ScoreCache

from ..fuzzing import damaged, reads_or_refuses

KEY = {"a": 1}
NOTHING = ("None", "{}")
OUTCOME = Outcome((Score("task", "acc", 0.5, 0.25, 4), Score("task", "other", 1 / 3, float("nan"), 4)), np.eye(4)[0])
TABLE = pd.DataFrame({"layer": [0, 1], "share": [0.1, 1 / 3]})
PARTIAL = {0: Likelihood(-1.5, True), 7: Likelihood(float("-inf"), False)}


def _table(cache: ScoreCache) -> pd.DataFrame | None:
    """The table that is stored; None if it would be computed."""
    computed = pd.DataFrame({"x": [0]})
    found = cache.table({"t": 1}, lambda: computed)
    return None if found is computed else found


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScoreCache:
    monkeypatch.setattr(score_cache, "_SAVE_INTERVAL", -1.0)
    cache = ScoreCache(tmp_path)
    cache.put(KEY, [OUTCOME])
    cache.table({"t": 1}, lambda: TABLE)
    cache.partial({"p": 1}).save(PARTIAL)
    return cache


def test_what_was_written_comes_back(cache: ScoreCache) -> None:
    [found] = cache.get(KEY) or []
    assert found.scores[0] == OUTCOME.scores[0]
    assert np.isnan(found.scores[1].stderr)
    assert np.array_equal(found.rows, OUTCOME.rows)
    assert TABLE.equals(_table(cache))
    assert cache.partial({"p": 1}).load() == PARTIAL
    assert cache.get({"a": 2}) is None


def test_a_damaged_file_is_no_result(cache: ScoreCache, tmp_path: Path) -> None:
    for content in ("", "{", "[]", "3", "[" * 100_000, '{"content": [], "seal": ""}', "\ud83d"):
        for path in tmp_path.iterdir():
            path.write_bytes(content.encode("utf-8", "surrogatepass"))
        assert cache.get(KEY) is None
        assert cache.partial({"p": 1}).load() == {}
        assert _table(cache) is None
    assert PartialResults(tmp_path / "none.partial").load() == {}


def test_a_figure_that_was_changed_is_no_result(cache: ScoreCache) -> None:
    """Whatever was changed, and be it a digit that makes sense."""
    path = cache.path(KEY)
    path.write_text(path.read_text().replace("0.25", "0.35"))
    assert cache.get(KEY) is None


def test_the_hash_of_a_file_is_made_again_if_it_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(score_cache, "_BLOCK_BYTES", 4)
    (tmp_path / "weights").write_bytes(b"some weights")
    first = score_cache._file_hash(tmp_path / "weights")
    [kept] = (tmp_path / "cache").rglob("hashes/*")
    assert kept.read_text() == first
    for content in (b"", b"\xff\xfe", b"0" * 31):
        kept.write_bytes(content)
        score_cache._hashed.cache_clear()
        assert score_cache._file_hash(tmp_path / "weights") == first


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (lambda cache: cache.put(KEY, [OUTCOME]), lambda cache: cache.get(KEY)),
        (lambda cache: cache.table({"t": 1}, lambda: TABLE), _table),
        (lambda cache: cache.partial({"p": 1}).save(PARTIAL), lambda cache: cache.partial({"p": 1}).load()),
    ],
)
def test_damage_is_computed_again(
    write: Callable[[ScoreCache], Any], read: Callable[[ScoreCache], Any], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(score_cache, "_SAVE_INTERVAL", -1.0)
    cache = ScoreCache(tmp_path)
    write(cache)
    [path] = tmp_path.iterdir()
    content, expected = path.read_bytes(), repr(read(cache))

    @settings(derandomize=True, max_examples=100)
    @given(changed=damaged(content))
    def damage(changed: bytes) -> None:
        path.write_bytes(changed)
        found: list[Any] = []
        assert reads_or_refuses(lambda: found.append(read(cache)), size=len(content)), "a cache refuses nothing"
        assert repr(found[0]) in (expected, *NOTHING)

    damage()
