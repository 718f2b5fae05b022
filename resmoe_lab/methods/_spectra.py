"""Singular values of a matrix, without its singular vectors: what a truncated matrix loses at every rank."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy.linalg import cython_lapack

from .._core.threads import one_blas_thread

#: Spectra of larger matrices are computed in float32, whose rounding a curve does not show.
_EXACT_SIDE = 1024
#: Columns that LAPACK reduces at once, at the most.
_BLOCK = 64


def squared_spectrum(matrix: torch.Tensor) -> torch.Tensor:
    """Squared singular values in float64, smallest first, from the products of the shorter side."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide.double() if wide.shape[0] <= _EXACT_SIDE else wide.float()
    if wide.device.type != "cpu":
        return torch.linalg.eigvalsh(wide @ wide.T).double().clamp(min=0)
    rows = wide.numpy()
    with one_blas_thread():
        # numpy computes only one half of a symmetric product.
        values = _eigenvalues(rows @ rows.T)
    return torch.from_numpy(values).double().clamp(min=0)


def _eigenvalues(matrix: np.ndarray) -> np.ndarray:
    """Eigenvalues of a symmetric float32 or float64 matrix, smallest first; the matrix is overwritten.

    It is made tridiagonal, and QL steps without roots do the rest. This is LAPACK's own way, but numpy always computes
    in float64, torch's library is slower on some processors, and scipy's functions keep all other threads waiting.
    """
    routines = _routines(matrix.dtype.char)
    if routines is None:
        return np.asarray(np.linalg.eigvalsh(matrix))
    reduce, solve = routines
    size = len(matrix)
    diagonal, beside, factors = (np.empty(size, matrix.dtype) for _ in range(3))
    room = np.empty(_BLOCK * size, matrix.dtype)
    n, lwork, info = ctypes.c_int(size), ctypes.c_int(len(room)), ctypes.c_int(0)
    at = [array.ctypes.data for array in (diagonal, beside, factors, room)]
    side, status = ctypes.byref(n), ctypes.byref(info)
    reduce(b"U", side, matrix.ctypes.data, side, *at, ctypes.byref(lwork), status)
    solve(side, *at[:2], status)
    if info.value:
        raise np.linalg.LinAlgError(f"the eigenvalues of a {size} x {size} matrix did not converge")
    return diagonal


@cache
def _routines(kind: str) -> tuple[Callable[..., None], Callable[..., None]] | None:
    """LAPACK's reduction to a tridiagonal matrix, and the eigenvalues of one; meanwhile other threads run.

    None where scipy's library does not take what is handed over here.
    """
    prefix = {"f": "s", "d": "d"}[kind]
    reduce, solve = _routine(f"{prefix}sytrd", integers=4, others=6), _routine(f"{prefix}sterf", integers=2, others=2)
    return None if reduce is None or solve is None else (reduce, solve)


def _routine(name: str, *, integers: int, others: int) -> Callable[..., None] | None:
    """A function of scipy's LAPACK that takes pointers, so many of them to 32-bit integers."""
    capsule: Any = cython_lapack.__pyx_capi__.get(name)
    if capsule is None:
        return None
    text, pointer = ctypes.c_char_p, ctypes.c_void_p
    name_of = ctypes.PYFUNCTYPE(text, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
    open_capsule = ctypes.PYFUNCTYPE(pointer, ctypes.py_object, text)(("PyCapsule_GetPointer", ctypes.pythonapi))
    signature = name_of(capsule)
    taken = [part.strip() for part in signature.decode().removeprefix("void (").removesuffix(")").split(",")]
    if len(taken) != integers + others or taken.count("int *") != integers:
        return None
    return ctypes.CFUNCTYPE(None, *[pointer] * len(taken))(open_capsule(capsule, signature))
