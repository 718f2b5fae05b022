"""bfloat16 products for the numbers that lose nothing by them, and for no others in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class _Precision:
    """Torch's setting for float32 products, which all threads of a process share.

    It is on only while every thread that multiplies under this gate holds bfloat16 numbers. Whoever needs all the
    bits of a float32 waits for the few products that are under way, and keeps the setting off for as long as it works.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._exact = self._rounding = 0
        self._before = ""

    @contextmanager
    def float32(self) -> Iterator[None]:
        """Multiply with all the bits of float32."""
        with self._changed:
            self._exact += 1
        try:
            with self._changed:
                self._changed.wait_for(lambda: not self._rounding)
            yield
        finally:
            with self._changed:
                self._exact -= 1

    @contextmanager
    def bfloat16(self) -> Iterator[None]:
        """Multiply float32 numbers that are bfloat16 numbers by the processor's bfloat16 kernels, where that is free.

        Their products are exact in float32, and are summed in it. Where another thread needs float32, they are
        multiplied as such, which is slower and gives the same.
        """
        settings: Any = getattr(torch.backends.mkldnn, "matmul", None)  # since torch 2.9
        with self._changed:
            taken = settings is not None and not self._exact
            if taken:
                if not self._rounding:
                    self._before, settings.fp32_precision = settings.fp32_precision, "bf16"
                self._rounding += 1
        try:
            yield
        finally:
            if taken:
                with self._changed:
                    self._rounding -= 1
                    if not self._rounding:
                        settings.fp32_precision = self._before
                        self._changed.notify_all()


_PRECISION = _Precision()
float32_products = _PRECISION.float32
bfloat16_products = _PRECISION.bfloat16
