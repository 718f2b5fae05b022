"""Compiled functions for long trainings, where there is a C++ compiler."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

import torch

from .._core.errors import ResmoeWarning

P = ParamSpec("P")
R = TypeVar("R")


def has_compiler() -> bool:
    """Whether there is the C++ compiler that torch.compile takes for the processor."""
    default = "clang++" if sys.platform == "darwin" else "cl" if sys.platform == "win32" else "g++"
    return shutil.which(os.environ.get("CXX", default)) is not None


class Compiled(Generic[P, R]):
    """A function of tensors that is compiled when it is first called; as it is, with a warning, where that fails.

    Parameters
    ----------
    function
        Its shapes are the same in every call.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self._function = function
        self._compiled: Callable[P, R] | None = torch.compile(function, dynamic=False)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        if self._compiled is not None:
            try:
                return self._compiled(*args, **kwargs)
            except torch._dynamo.exc.TorchDynamoException as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                warnings.warn(f"training goes on without compiled steps ({reason})", ResmoeWarning, stacklevel=2)
                self._compiled = None
        return self._function(*args, **kwargs)
