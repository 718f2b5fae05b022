"""Work side by side: in order, no further ahead than it must, and with the threads given back."""

import threading
from collections.abc import Iterator

import pytest
import torch
from threadpoolctl import threadpool_info

from resmoe_lab._core.threads import chunked, map_parallel, map_with_buffers, one_blas_thread


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_results_come_in_order_from_two_threads() -> None:
    meeting = threading.Barrier(2, timeout=30)  # passes only if two items are worked on at the same time

    def work(item: int) -> tuple[int, int]:
        meeting.wait()
        return item, torch.get_num_threads()

    assert map_parallel(work, range(6)) == [(item, 1) for item in range(6)]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_items_are_made_as_they_are_needed() -> None:
    made, done = [], []

    def items() -> Iterator[int]:
        for item in range(6):
            assert len(made) - len(done) < 2
            made.append(item)
            yield item

    assert len(map_parallel(done.append, items())) == 6


@pytest.mark.usefixtures("two_threads")
def test_an_error_gives_the_threads_back() -> None:
    before = [library["num_threads"] for library in threadpool_info()]

    def fail(_: int) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        map_parallel(fail, range(3))
    assert torch.get_num_threads() == 2
    assert [library["num_threads"] for library in threadpool_info()] == before


def test_blas_gets_its_threads_back_only_when_the_last_of_two_is_done() -> None:
    def threads() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before, inside = threads(), one_blas_thread()
    with one_blas_thread():
        inside.__enter__()
    assert set(threads()) == {1}
    inside.__exit__(None, None, None)
    assert threads() == before


BUFFERS = [torch.zeros(1), torch.zeros(1)]


def test_results_come_in_order_and_a_buffer_belongs_to_one_job_at_a_time():
    busy, lock = set(), threading.Lock()

    def job(number):
        def work(buffer):
            with lock:
                assert id(buffer) not in busy
                busy.add(id(buffer))
            result = float(torch.randn(200, 200).mm(torch.randn(200, 200)).sum()) * 0 + number
            with lock:
                busy.remove(id(buffer))
            return result

        return work

    assert map_with_buffers([job(number) for number in range(20)], BUFFERS) == list(range(20))


@pytest.mark.parametrize("fails", [False, True])
def test_jobs_with_buffers_give_the_threads_back(fails):
    before = torch.get_num_threads()
    counts = []

    def job(_):
        counts.append(torch.get_num_threads())
        if fails:
            raise ValueError("no")

    if fails:
        with pytest.raises(ValueError, match="no"):
            map_with_buffers([job, job], BUFFERS)
    else:
        map_with_buffers([job, job], BUFFERS)
    assert torch.get_num_threads() == before
    assert all(count == max(1, before // 2) for count in counts)


def test_chunked():
    assert list(chunked([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]
