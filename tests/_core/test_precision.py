from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from resmoe_lab._core.precision import bfloat16_products, float32_products
from resmoe_lab.workbench.job import Job

_PATIENCE = 60


def setting() -> str:
    return torch.backends.mkldnn.matmul.fp32_precision


@pytest.fixture(autouse=True)
def left_as_found() -> Iterator[None]:
    before = setting()
    yield
    assert setting() == before


def test_the_setting_holds_until_the_last_of_two_threads_is_done() -> None:
    before, entered, leave = setting(), threading.Event(), threading.Event()

    def other() -> None:
        with bfloat16_products():
            entered.set()
            leave.wait(_PATIENCE)

    thread = threading.Thread(target=other)
    with bfloat16_products():
        thread.start()
        assert entered.wait(_PATIENCE)
    assert setting() == "bf16"
    leave.set()
    thread.join()
    assert setting() == before


def test_the_setting_comes_back_after_an_error() -> None:
    before, settings = setting(), list[str]()

    def fail() -> None:
        with bfloat16_products():
            settings.append(setting())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert settings == ["bf16"]
    assert setting() == before


def test_whoever_needs_float32_waits_for_the_others_and_keeps_the_setting_off() -> None:
    before, settings = setting(), list[str]()

    def exact() -> None:
        with float32_products():
            settings.append(setting())

    thread = threading.Thread(target=exact)
    with bfloat16_products():
        thread.start()
        thread.join(0.1)
        assert settings == []
    thread.join()
    assert settings == [before]
    with float32_products(), bfloat16_products():
        assert setting() == before


def test_a_job_beside_the_notebook_never_sees_rounded_numbers() -> None:
    before, begun, go_on = setting(), threading.Event(), threading.Event()

    def work(_: object) -> str:
        begun.set()
        go_on.wait(_PATIENCE)
        return setting()

    job = Job(work)
    assert begun.wait(_PATIENCE)
    with bfloat16_products():
        go_on.set()
        assert job.result(_PATIENCE) == before
