"""bfloat16 products for the numbers that lose nothing by them, and for no others in this process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from .shared import SharedSetting


def _bfloat16() -> Callable[[], None]:
    settings: Any = getattr(torch.backends.mkldnn, "matmul", None)  # since torch 2.9
    if settings is None:
        return lambda: None
    before, settings.fp32_precision = settings.fp32_precision, "bf16"

    def take_back() -> None:
        settings.fp32_precision = before

    return take_back


_BFLOAT16 = SharedSetting(_bfloat16)


def bfloat16_products() -> AbstractContextManager[None]:
    """Multiply float32 numbers that are bfloat16 numbers by the processor's bfloat16 kernels, where that is free.

    Their products are exact in float32, and are summed in it. Where another thread needs float32, they are multiplied
    as such, which is slower and gives the same.
    """
    return _BFLOAT16.held()


def float32_products() -> AbstractContextManager[None]:
    """Multiply with all the bits of float32, after the few bfloat16 products that are under way."""
    return _BFLOAT16.kept_off()
