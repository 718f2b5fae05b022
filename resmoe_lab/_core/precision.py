"""bfloat16 matrix products of numbers that are bfloat16, without affecting other products of this process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from .shared_setting import SharedSetting


def _bfloat16() -> Callable[[], None]:
    settings: Any = getattr(torch.backends.mkldnn, "matmul", None)  # since torch 2.9
    if settings is None:
        return lambda: None
    before, settings.fp32_precision = settings.fp32_precision, "bf16"

    def restore() -> None:
        settings.fp32_precision = before

    return restore


_BFLOAT16 = SharedSetting(_bfloat16)


def bfloat16_products() -> AbstractContextManager[None]:
    """Let float32 products use the processor's bfloat16 kernels, for numbers that are exactly bfloat16.

    Their products are exact in float32 and accumulated in float32. If another thread requires float32 products, they
    are computed as such, which is slower and gives the same.
    """
    return _BFLOAT16.enabled()


def float32_products() -> AbstractContextManager[None]:
    """Keep full float32 precision, after waiting for the bfloat16 products that are running."""
    return _BFLOAT16.disabled()
