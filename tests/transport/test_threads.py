import threading

import pytest
import torch

from resmoe_lab.transport.threads import chunks, in_lanes

BUFFERS = [torch.zeros(1), torch.zeros(1)]


def test_results_come_in_order_and_a_buffer_is_one_jobs_at_a_time():
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

    assert in_lanes([job(number) for number in range(20)], BUFFERS) == list(range(20))


@pytest.mark.parametrize("fails", [False, True])
def test_threads_are_given_back(fails):
    before = torch.get_num_threads()
    seen = []

    def job(_):
        seen.append(torch.get_num_threads())
        if fails:
            raise ValueError("no")

    if fails:
        with pytest.raises(ValueError, match="no"):
            in_lanes([job, job], BUFFERS)
    else:
        in_lanes([job, job], BUFFERS)
    assert torch.get_num_threads() == before
    assert all(count == max(1, before // 2) for count in seen)


def test_chunks():
    assert list(chunks([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]
