import time

import pytest

from resmoe_lab._core.errors import Cancelled
from resmoe_lab._core.progress import Tick, TqdmProgress, tracked


def test_tracked_ticks_before_the_first_and_after_each() -> None:
    ticks: list[Tick] = []
    assert list(tracked(["a", "b"], "work", ticks.append)) == ["a", "b"]
    assert [(tick.done, tick.total) for tick in ticks] == [(0, 2), (1, 2), (2, 2)]


def test_a_renderer_cancels_by_raising() -> None:
    def stop(tick: Tick) -> None:
        if tick.done == 1:
            raise Cancelled("stopped")

    ticks: list[int] = []
    with pytest.raises(Cancelled):
        ticks.extend(tracked([1, 2, 3], "work", stop))
    assert ticks == [1]


def test_tqdm_shows_facts_and_finishes(capsys: pytest.CaptureFixture[str]) -> None:
    progress = TqdmProgress()
    for done in range(3):
        progress(Tick("descent", done, 2, {"objective": 1.23456}))
        time.sleep(0.11)  # tqdm draws at most every tenth of a second
    progress.close()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "descent" in printed.err
    assert "1.235" in printed.err
