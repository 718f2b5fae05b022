"""Devices as users name them: what cannot hold a number is refused in a line."""

import pytest
import torch

from resmoe_lab._core.device import check_device
from resmoe_lab._core.errors import UsageError


def test_what_this_machine_has_is_taken() -> None:
    names = ["cpu", "cpu:0", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    assert [check_device(name) for name in names] == names


@pytest.mark.parametrize("name", ["", "nope", "cuda:x", "meta", f"cuda:{torch.cuda.device_count()}"])
def test_what_it_has_not_is_refused_in_a_line(name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be used .*expected cpu, or an accelerator") as caught:
        check_device(name)
    assert "\n" not in str(caught.value)
