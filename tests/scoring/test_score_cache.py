"""The score cache: damaged files are no results."""

from pathlib import Path

from resmoe_lab.scoring.likelihood import Likelihood
from resmoe_lab.scoring.score_cache import PartialResults, ScoreCache


def test_a_damaged_file_is_no_result(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path)
    cache.path({"a": 1}).write_text("{")
    assert cache.get({"a": 1}) is None
    assert PartialResults(tmp_path / "none.partial").load() == {}
    (tmp_path / "x.partial").write_text('{"0": {"log_probability": -1.0, "greedy": true}}')
    assert PartialResults(tmp_path / "x.partial").load() == {0: Likelihood(-1.0, True)}
