from __future__ import annotations

import threading

import pytest

from resmoe_lab._core.errors import CheckpointError
from resmoe_lab._core.progress import Progress, silent
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.workbench.cache import Cache, checkpoint_fingerprint


def test_the_second_to_ask_gets_what_the_first_computed() -> None:
    cache, calls = Cache(4), []
    first = cache.get("a", lambda _: calls.append(1) or "value", silent)
    second = cache.get("a", lambda _: calls.append(2) or "other", silent)
    assert (first.value, first.fresh, second.value, second.fresh) == ("value", True, "value", False)
    assert calls == [1]
    assert first.mark.startswith("fresh")
    assert second.mark == f"cached · computed at {first.computed_at:%H:%M:%S}"


def test_what_was_used_longest_ago_goes_first() -> None:
    cache = Cache(2)
    for key in ("a", "b", "a", "c"):
        cache.get(key, lambda _: "old", silent)
    assert [cache.get(key, lambda _: "new", silent).fresh for key in ("a", "c", "b")] == [False, False, True]


def test_two_at_once_wait_for_one_computation() -> None:
    cache, calls, started, go_on = Cache(4), [], threading.Event(), threading.Event()
    waiting: list[str] = []

    def slow(_: Progress) -> str:
        calls.append(1)
        started.set()
        assert go_on.wait(30)
        return "value"

    first = threading.Thread(target=lambda: cache.get("a", slow, silent))
    first.start()
    assert started.wait(30)

    def record(tick: object) -> None:
        waiting.append(str(tick))
        go_on.set()

    assert cache.get("a", slow, record).value == "value"
    first.join()
    assert calls == [1]
    assert "waiting for another panel" in waiting[0]


def test_a_failure_is_not_kept() -> None:
    cache = Cache(2)

    def fail(_: Progress) -> str:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.get("a", fail, silent)
    assert cache.get("a", lambda _: "yes", silent).value == "yes"


def test_changed_files_are_another_checkpoint(pico_checkpoint: Checkpoint) -> None:
    before = checkpoint_fingerprint(pico_checkpoint)
    assert checkpoint_fingerprint(pico_checkpoint) == before
    config = pico_checkpoint.folder / "config.json"
    config.write_text(config.read_text() + " ")
    assert checkpoint_fingerprint(pico_checkpoint) != before
    next(iter(pico_checkpoint.tensors.values())).file.unlink()
    with pytest.raises(CheckpointError, match="is gone, expected the files that were opened"):
        checkpoint_fingerprint(pico_checkpoint)
